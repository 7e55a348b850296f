"""Count what the instances of a service report, over a window whose start only moves on.

Each reading is looked at once.  What it adds to the one before is a step at the time it came; a
step counts until the window has passed it.  So a judgement costs as much as what is new, not as
much as the window holds: three thousand instances are a hundred thousand readings in five minutes.

Counters survive lost reports; they begin again at 0 when an instance restarts, and its start time
says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import inf, nextafter
from typing import TYPE_CHECKING, NamedTuple

from gpuward.coordinator.impact import BuildChange, Impact, Replica

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuward.coordinator.model import ServiceTotals

# An instance not heard for this long says nothing about the present: same as a silent node.
SILENT_AFTER_S = 45.0
# Two clocks say when an instance started: the same start may be told with a difference.
SAME_START_S = 1.0


class _Step(NamedTuple):
    at_s: float
    requests: int
    failed: int
    slow: int


@dataclass(slots=True)
class _Instance:
    """What one instance has reported; ``requests``, ``failed`` and ``slow`` in the window.

    ``unready_since_s``, ``stalled_since_s``: since when every reading has been so.
    """

    last: ServiceTotals
    requests: int = 0
    failed: int = 0
    slow: int = 0
    unready_since_s: float | None = None
    stalled_since_s: float | None = None

    def count(self, step: _Step, times: int) -> None:
        self.requests += times * step.requests
        self.failed += times * step.failed
        self.slow += times * step.slow


class Counting:
    """What one service's instances have reported, and what of it lies in the window."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._instances: dict[str, _Instance] = {}
        self._requests = self._failed = self._slow = 0
        # Heaps by time: steps that count, and when requests failed or were slow.  The number is
        # of no meaning but that no two instances are ever compared.
        self._steps: list[tuple[_Step, int, _Instance]] = []
        self._numbers = count()
        self._hurt_at_s: list[float] = []

    def add(self, reading: ServiceTotals) -> None:
        """Take in a reading; one that is not newer than what is known of its instance is known.

        Of what came late nothing is lost: the counters of the reading after it hold it too.
        """
        known = self._instances.get(reading.instance)
        if known is None:
            known = self._instances[reading.instance] = _Instance(reading)
            # Whatever it counted before the window began is not of the window.
            self._count(_step(nextafter(reading.started_at_s, inf), reading), known)
        elif _when(reading) <= _when(known.last):
            return
        else:
            step = _delta(known.last, reading)
            self._count(step, known)
            if step.failed + step.slow > 0:
                heappush(self._hurt_at_s, step.at_s)
        _follow(known, reading)

    def forget(self, before_s: float) -> None:
        """Drop instances that were not heard since; one that comes back is new."""
        self._instances = {
            name: it for name, it in self._instances.items() if it.last.received_at_s >= before_s
        }

    @property
    def is_empty(self) -> bool:
        return not self._instances

    def impact(self, since_s: float, now_s: float) -> Impact:
        """Return the impact from ``since_s``, no earlier than in the call before, to ``now_s``."""
        self._pass_by(since_s)
        recent = [it for it in self._instances.values() if it.last.received_at_s > since_s]
        heard = [it for it in recent if now_s - it.last.received_at_s <= SILENT_AFTER_S]
        return Impact(
            service=self._service,
            requests=self._requests,
            failed=self._failed,
            slow=self._slow,
            instances=len(recent),
            ready=sum(it.last.ready for it in heard),
            silent=len(recent) - len(heard),
            waiting=sum(it.last.waiting for it in heard),
            running=sum(it.last.running for it in heard),
            stalled_for_s=_for_all([it.stalled_since_s for it in heard], since_s, now_s),
            unready_for_s=_for_all([it.unready_since_s for it in heard], since_s, now_s),
            hurt_since_s=self._hurt_at_s[0] if self._hurt_at_s else None,
            nodes=frozenset(it.last.node for it in recent),
        )

    def replicas(self, since_s: float, now_s: float) -> Iterator[Replica]:
        """Yield what each instance does to the impact of the same ``since_s`` and ``now_s``."""
        for name, it in self._instances.items():
            if it.last.received_at_s > since_s:
                heard = now_s - it.last.received_at_s <= SILENT_AFTER_S
                impact = self._impact_of(it, since_s, now_s, heard=heard)
                last = it.last
                yield Replica(name, last.node, last.started_at_s, heard, impact, _changed(last))

    def _impact_of(self, it: _Instance, since_s: float, now_s: float, *, heard: bool) -> Impact:
        return Impact(
            service=self._service,
            requests=it.requests,
            failed=it.failed,
            slow=it.slow,
            instances=1,
            ready=int(heard and it.last.ready),
            silent=int(not heard),
            waiting=it.last.waiting,
            running=it.last.running,
            stalled_for_s=_for_all([it.stalled_since_s], since_s, now_s) if heard else 0.0,
            unready_for_s=_for_all([it.unready_since_s], since_s, now_s) if heard else 0.0,
            nodes=frozenset((it.last.node,)),
        )

    def _count(self, step: _Step, instance: _Instance) -> None:
        heappush(self._steps, (step, next(self._numbers), instance))
        instance.count(step, 1)
        self._requests += step.requests
        self._failed += step.failed
        self._slow += step.slow

    def _pass_by(self, since_s: float) -> None:
        while self._steps and self._steps[0][0].at_s <= since_s:
            step, _, instance = heappop(self._steps)
            instance.count(step, -1)
            self._requests -= step.requests
            self._failed -= step.failed
            self._slow -= step.slow
        while self._hurt_at_s and self._hurt_at_s[0] <= since_s:
            heappop(self._hurt_at_s)


def measure(
    service: str, samples: Iterable[ServiceTotals], *, since_s: float, now_s: float
) -> Impact:
    """Return the impact on ``service`` from ``since_s`` to ``now_s``.

    ``samples``: of its instances, any order; of each instance also the last one before ``since_s``,
    where there is one, because counting starts from it.
    """
    counting = Counting(service)
    for sample in sorted(samples, key=_when):
        counting.add(sample)
    return counting.impact(since_s, now_s)


def _changed(last: ServiceTotals) -> BuildChange | None:
    if not last.changed_at_s:
        return None
    words = [
        f"{what} {before} to {now}"
        for what, before, now in (
            ("model", last.previous_model, last.model),
            ("version", last.previous_version, last.version),
        )
        if before and now and before != now
    ]
    return BuildChange(" and from ".join(words), last.changed_at_s) if words else None


def _when(reading: ServiceTotals) -> tuple[float, float]:
    return reading.received_at_s, reading.observed_at_s


def _step(at_s: float, totals: ServiceTotals) -> _Step:
    failed = totals.failed + totals.timed_out
    return _Step(at_s, totals.requests, failed, totals.over_objective)


def _delta(before: ServiceTotals, after: ServiceTotals) -> _Step:
    old, new = _step(before.received_at_s, before), _step(after.received_at_s, after)
    restarted = after.started_at_s > before.started_at_s + SAME_START_S
    fell = new.requests < old.requests or new.failed < old.failed or new.slow < old.slow
    if restarted or fell:
        return new
    return _Step(
        new.at_s, new.requests - old.requests, new.failed - old.failed, new.slow - old.slow
    )


def _follow(known: _Instance, reading: ServiceTotals) -> None:
    at_s, last = reading.received_at_s, known.last
    if reading.ready:
        known.unready_since_s = None
    elif known.unready_since_s is None:
        known.unready_since_s = at_s
    same = reading.requests == last.requests and reading.started_at_s == last.started_at_s
    if reading.waiting + reading.running == 0:
        known.stalled_since_s = None
    elif known.stalled_since_s is None or not same:
        known.stalled_since_s = at_s
    known.last = reading


def _for_all(since: list[float | None], window_s: float, now_s: float) -> float:
    """Return for how long, within the window, something has been true of all; 0 when not."""
    known = [max(s, window_s) for s in since if s is not None]
    return now_s - max(known) if known and len(known) == len(since) else 0.0
