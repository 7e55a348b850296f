"""What the agent tells about itself: each number once, with where it is read.

How long NVML's calls take, children left behind and the driver's generation are signals of the
node; CPU and memory of the agent and of its NVML child come from the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.self_metrics import SelfMetric

if TYPE_CHECKING:
    from gpuward.agent.component import Components
    from gpuward.agent.event_keeper import EventKeeper
    from gpuward.agent.judge import Judge
    from gpuward.agent.reporter import Reporter
    from gpuward.agent.sampling import Sampling
    from gpuward.agent.spool import Spool
    from gpuward.daemon.clock import Clock

READ_EVERY_SECOND = "gpu_memory_used_bytes"


def figures_of_judge(judge: Judge, components: Components) -> tuple[SelfMetric, ...]:
    """Return what the judge and the parts around it count."""
    return (
        SelfMetric("judgements_total", "Turns of the judge's loop.", lambda: judge.ticks),
        SelfMetric(
            "judgement_seconds_total",
            "Time that these turns took, their pauses for others included.",
            lambda: judge.judging_seconds,
        ),
        SelfMetric(
            "component_failures_total", "Turns of parts that failed.", components.failures.total
        ),
        SelfMetric("series", "Series in the window.", lambda: judge.readings.series),
        SelfMetric(
            "samples_refused_total",
            "Samples of series beyond the bound.",
            lambda: judge.readings.refused,
        ),
        SelfMetric(
            "history_series",
            "Series with an hour by the second and a day by ten seconds.",
            lambda: judge.history.series,
        ),
        SelfMetric(
            "history_series_refused",
            "Series beyond the bound of the history, in the last minute.",
            lambda: judge.history.refused,
        ),
    )


def figures_of_gpus(judge: Judge, clock: Clock) -> tuple[SelfMetric, ...]:
    """Return how old the newest reading of each GPU is, as long as it is remembered."""

    def ages() -> dict[str, float]:
        now_s = clock.mono_s()
        window = judge.readings.window(now_s)
        readings = {key.gpu: window.values(key, 0.0) for key in window.known(READ_EVERY_SECOND)}
        return {gpu: now_s - kept[-1].at_s for gpu, kept in readings.items() if kept}

    return (SelfMetric("gpu_age_seconds", "Since a GPU was last read.", ages, "gpu"),)


def figures_of_sampling(sampling: Sampling, clock: Clock) -> tuple[SelfMetric, ...]:
    """Return how well each sampler keeps up."""
    return (
        SelfMetric(
            "sampler_age_seconds",
            "Since the last turn of a sampler that worked.",
            lambda: {name: clock.mono_s() - at_s for name, at_s in sampling.worked_s.items()},
            "sampler",
        ),
        SelfMetric(
            "sampler_turn_seconds_total",
            "Time that the turns of a sampler took.",
            lambda: sampling.turns_seconds,
            "sampler",
        ),
    )


def figures_of_reports(
    judge: Judge, spool: Spool, keeper: EventKeeper, reporter: Reporter | None
) -> tuple[SelfMetric, ...]:
    """Return what waits for the coordinator, what was lost, and how reporting goes."""
    rows = (
        SelfMetric("spool_events", "Events not acknowledged yet.", lambda: spool.events),
        SelfMetric("spool_held_events", "Of these, not on disk: it is full.", lambda: spool.held),
        SelfMetric(
            "events_dropped_total",
            "Events lost for want of room.",
            lambda: judge.events_dropped + keeper.dropped + spool.dropped,
        ),
    )
    if reporter is None:
        return rows
    return (
        *rows,
        SelfMetric("coordinator_connected", "1 in a session.", lambda: reporter.connected),
        SelfMetric("reports_total", "Reports sent.", lambda: reporter.reports),
        SelfMetric(
            "reports_acknowledged_total",
            "Reports that the coordinator has stored.",
            lambda: reporter.reports_acknowledged,
        ),
    )
