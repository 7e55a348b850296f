"""What is remembered of a replica longer than a window lasts, and what follows from it each turn.

Pure.  Another engine at the same address, or the same after a restart, is begun anew: a bigger
model is no fault, and nobody knows what flags the new one was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuward.agent.detection.burn_rate import BUDGET_RATIO, Count, HourOfCounts, burns_in_both
from gpuward.agent.detection.slow_down import SlowDown
from gpuward.agent.detection.usual_ratio import UsualRatio, is_unusual
from gpuward.agent.model import Sample, SeriesKey
from gpuward.agent.replica_load import Counters, counters_of, is_enough, step_between

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

REQUESTS = "replica_requests_total"
# An engine counts a request in one of them.
FAILED = ("replica_requests_failed_total", "replica_requests_timed_out_total")
OVER_OBJECTIVE = "replica_requests_over_objective_total"
OBJECTIVE_BUDGET = "replica_objective_budget_ratio"
RECENT = "replica_inter_token_recent_seconds"
EXPECTED = "replica_inter_token_expected_seconds"
SHIFT = "replica_inter_token_shift_ratio"
SHIFT_AGE = "replica_inter_token_shift_age_seconds"
EVIDENCE = "replica_inter_token_evidence_ratio"
BURN = "replica_objective_burn_ratio"
SLOW_BURN = "replica_objective_slow_burn_ratio"
USUALLY_FAILED = "replica_requests_failed_usual_ratio"

# Between two looks.
TURN_S = 5.0
MINUTE_S = 60.0
FIVE_MINUTES_S = 300.0
# No engine serves more in five minutes: a page that says so is wrong.
MOST_REQUESTS = 1e9
# The last word on a replica without traffic is shown for so long.
HELD_S = 60.0


@dataclass(frozen=True, slots=True)
class LastWord:
    """What was last said of the time between tokens."""

    at_s: float
    recent_s: float
    expected_s: float
    shift_ratio: float
    evidence: float
    since_s: float


@dataclass(slots=True)
class ReplicaWatch:
    """One replica, as long as it is the same engine with the same model."""

    model: str = ""
    # Pids with their start, of the processes that serve it, where they are known.
    processes: list[tuple[int, int]] = field(default_factory=list)
    counters: Counters | None = None
    slow_down: SlowDown = field(default_factory=SlowDown)
    objective: HourOfCounts = field(default_factory=HourOfCounts)
    failures: UsualRatio = field(default_factory=UsualRatio)
    last: LastWord | None = None


def look(window: Window, replica: SeriesKey, watch: ReplicaWatch) -> ReplicaWatch:
    """Return ``watch`` after this turn: the same, changed, or a new one for another engine."""
    model, processes = _who(window, replica)
    counters = counters_of(window, replica)
    if _is_another(watch, model, processes, counters):
        # How often requests fail is known of the service, not of one start of it.
        watch = ReplicaWatch(failures=watch.failures)
    watch.model = model or watch.model
    watch.processes = processes or watch.processes
    if counters is not None:
        _note_tokens(window, replica, watch, counters)
    _note_requests(window, replica, watch)
    return watch


def samples(window: Window, replica: SeriesKey, watch: ReplicaWatch) -> Iterator[Sample]:
    """Yield what is known of ``replica`` now; what is not known is absent."""
    now_s, last = window.now_s, watch.last
    if last is not None and 0.0 <= now_s - last.at_s <= HELD_S:
        for signal, value in (
            (RECENT, last.recent_s),
            (EXPECTED, last.expected_s),
            (SHIFT, last.shift_ratio),
            (EVIDENCE, last.evidence),
            (SHIFT_AGE, now_s - last.since_s),
        ):
            yield Sample(replica._replace(signal=signal), now_s, value)
    if window.latest(replica._replace(signal=REQUESTS)) is None:
        return
    yield Sample(replica._replace(signal=USUALLY_FAILED), now_s, watch.failures.value)
    if window.latest(replica._replace(signal=OVER_OBJECTIVE)) is None:
        return
    minute, five = (count_of(window, replica, s) for s in (MINUTE_S, FIVE_MINUTES_S))
    hour = watch.objective.last_hour(_since_start(window, replica))
    budget = budget_of(window, replica)
    for signal, burn in (
        (BURN, burns_in_both(minute, five, budget)),
        (SLOW_BURN, burns_in_both(five, hour, budget)),
    ):
        if burn is not None:
            yield Sample(replica._replace(signal=signal), now_s, burn)


def budget_of(window: Window, replica: SeriesKey) -> float:
    """Return the share of requests that may be slower than the objective."""
    told = window.latest(replica._replace(signal=OBJECTIVE_BUDGET))
    return BUDGET_RATIO if told is None else told.value


def count_of(window: Window, replica: SeriesKey, lasting_s: float) -> Count:
    """Return the requests of the last ``lasting_s``, up to five minutes, and those too slow."""
    since_s = window.now_s - lasting_s
    return Count(
        _risen(window, replica, REQUESTS, since_s),
        _risen(window, replica, OVER_OBJECTIVE, since_s),
    )


def _who(window: Window, replica: SeriesKey) -> tuple[str, list[tuple[int, int]]]:
    serving = [
        process
        for process in window.processes
        if process.service == replica.service and process.endpoint == replica.endpoint
    ]
    models = {process.model for process in serving if process.model}
    model = models.pop() if len(models) == 1 else ""
    return model, sorted((process.pid, process.start_ticks) for process in serving)


def _is_another(
    watch: ReplicaWatch,
    model: str,
    processes: list[tuple[int, int]],
    counters: Counters | None,
) -> bool:
    if model and watch.model and model != watch.model:
        return True
    if processes and watch.processes and not set(processes) & set(watch.processes):
        return True
    return counters is not None and watch.counters is not None and counters.fell(watch.counters)


def _note_tokens(
    window: Window, replica: SeriesKey, watch: ReplicaWatch, counters: Counters
) -> None:
    before = watch.counters
    if before is None:
        watch.counters = counters
        return
    if not is_enough(before, counters):
        return
    watch.counters = counters
    step = step_between(window, replica, before, counters)
    if step is None:
        return
    judged = watch.slow_down.judge(step.load, step.seconds, counters.at_s)
    if judged is not None:
        watch.last = LastWord(
            at_s=counters.at_s,
            recent_s=step.seconds,
            expected_s=judged.expected_s,
            shift_ratio=judged.shift_ratio,
            evidence=judged.evidence or 0.0,
            since_s=counters.at_s if judged.since_s is None else judged.since_s,
        )


def _note_requests(window: Window, replica: SeriesKey, watch: ReplicaWatch) -> None:
    if window.latest(replica._replace(signal=REQUESTS)) is None:
        return
    watch.objective.note(window.now_s, _since_start(window, replica))
    if any(
        is_unusual(failed, requests, watch.failures.value)
        for lasting_s in (MINUTE_S, FIVE_MINUTES_S)
        for requests, failed in (failures_of(window, replica, lasting_s),)
    ):
        return
    watch.failures.learn(*failures_of(window, replica, TURN_S))


def failures_of(window: Window, replica: SeriesKey, lasting_s: float) -> tuple[float, float]:
    """Return the requests of the last ``lasting_s``, and those of them that failed."""
    since_s = window.now_s - lasting_s
    requests = _risen(window, replica, REQUESTS, since_s)
    failed = sum(_risen(window, replica, signal, since_s) for signal in FAILED)
    return requests, failed


def _risen(window: Window, replica: SeriesKey, signal: str, since_s: float) -> float:
    return min(MOST_REQUESTS, window.risen(replica._replace(signal=signal), since_s))


def _since_start(window: Window, replica: SeriesKey) -> Count:
    requests = window.latest(replica._replace(signal=REQUESTS))
    over = window.latest(replica._replace(signal=OVER_OBJECTIVE))
    return Count(0.0 if requests is None else requests.value, 0.0 if over is None else over.value)
