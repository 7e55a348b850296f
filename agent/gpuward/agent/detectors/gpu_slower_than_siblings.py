"""Detect a GPU that is slower than those beside it which do the same work.

Cards of one kind in one node share air, driver and load, so they are each other's best yardstick: a
card at 6.7 of 19.2 TFLOP/s passed every diagnosis of its vendor (NVIDIA/DCGM#122), and its
neighbours would have told.  Only cards that serve the same, busy at the same time and as busy, are
compared: the busiest of several engines runs at the lowest clock under the power limit, because it
does the most.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.device_load import is_measured
from gpuward.agent.gpu_load import was_busy
from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Result,
    SeriesKey,
)
from gpuward.agent.siblings import siblings
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.model import Gpu
    from gpuward.agent.window import Window

CLOCK = "gpu_sm_clock_hertz"
POWER = "gpu_power_draw_watts"
BANDWIDTH = "gpu_dram_active_ratio"
# What tells how much a card does.  Bandwidth is not among them: a slow memory shows there.
MEASURED = ("gpu_sm_active_ratio", "gpu_tensor_active_ratio")
COARSE = ("gpu_utilization_ratio", "gpu_memory_bandwidth_utilization_ratio")
LAUNCH = "probe_launch_seconds"

KIND = Kind(
    name="gpu.slower_than_siblings",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.DRAIN_NODE,
    meaning="A GPU does less than those of its kind that serve the same at the same time.",
    raise_after_s=180.0,
    clear_after_s=180.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Median of ``recent_s``, by the median of at least ``least_siblings`` others.

    Clocks of healthy cards at one load are within a few percent of one another.  Power and
    bandwidth also differ with the work that falls to a card, so they need more.
    """

    recent_s: float = 240.0
    least_siblings: int = 3
    clock_ratio: float = 0.9
    power_ratio: float = 0.6
    bandwidth_ratio: float = 0.6
    # As much of the multiprocessors, and of the tensor cores, is at work as with the siblings.
    comparable_ratio: float = 0.8
    # Below this a share is nothing that could be compared.
    least_activity: float = 0.05
    # A launch is a matter of the host too, whose threads are not all alike.
    launch_ratio: float = 2.0
    least_launches: int = 5


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding per GPU and what it is slower in; nothing where there are too few."""
    for group in siblings(window):
        if len(group) <= limits.least_siblings:
            continue
        for signal, ratio in (
            (CLOCK, limits.clock_ratio),
            (POWER, limits.power_ratio),
            (BANDWIDTH, limits.bandwidth_ratio),
        ):
            yield from _behind(window, limits, group, signal, ratio)
        yield from _late(window, limits, group)


def _behind(
    window: Window, limits: Limits, group: tuple[Gpu, ...], signal: str, ratio: float
) -> Iterator[Finding]:
    newest = {
        gpu.uuid: sample.value
        for gpu in group
        if (sample := window.latest(SeriesKey(signal, gpu=gpu.uuid))) is not None
    }
    if len(newest) <= limits.least_siblings:
        return
    # Medians of minutes are only worth it for one that is behind now.
    usual = median(newest.values())
    for gpu in group:
        if newest.get(gpu.uuid, usual) >= ratio * usual:
            continue
        if not was_busy(window, gpu.uuid, limits.recent_s):
            continue
        others = [
            other
            for other in group
            if other is not gpu
            and other.uuid in newest
            and was_busy(window, other.uuid, limits.recent_s)
        ]
        if len(others) < limits.least_siblings or not _does_as_much(window, limits, gpu, others):
            continue
        own = _median(window, limits, signal, gpu) or 0.0
        theirs = median(_median(window, limits, signal, other) or 0.0 for other in others)
        if own < ratio * theirs:
            yield _finding(window, gpu, signal, own, theirs)


def _does_as_much(window: Window, limits: Limits, gpu: Gpu, others: Sequence[Gpu]) -> bool:
    """Return whether the load of ``gpu`` is that of ``others``, as far as it can be measured."""
    signals = MEASURED if is_measured(window, gpu.uuid) else COARSE
    for signal in signals:
        own = _median(window, limits, signal, gpu)
        theirs = [_median(window, limits, signal, other) for other in others]
        known = [value for value in theirs if value is not None]
        if own is None or not known:
            continue
        less, more = sorted((own, median(known)))
        if more >= limits.least_activity and less < limits.comparable_ratio * more:
            return False
    return True


def _median(window: Window, limits: Limits, signal: str, gpu: Gpu) -> float | None:
    since_s = window.now_s - limits.recent_s
    figures = window.figures(SeriesKey(signal, gpu=gpu.uuid), since_s)
    return median(figures) if figures else None


def _late(window: Window, limits: Limits, group: tuple[Gpu, ...]) -> Iterator[Finding]:
    """Yield those whose empty pieces of work come back late: even the quickest of minutes.

    What is slow now and then is the host's doing; a slow path to the GPU always is.
    """
    since_s = window.now_s - limits.recent_s
    figures = {gpu: window.figures(SeriesKey(LAUNCH, gpu=gpu.uuid), since_s) for gpu in group}
    times = {gpu: min(few) for gpu, few in figures.items() if len(few) >= limits.least_launches}
    if len(times) <= limits.least_siblings:
        return
    for gpu, own in times.items():
        usual = median(time for other, time in times.items() if other is not gpu)
        if own > limits.launch_ratio * usual:
            yield _finding(window, gpu, LAUNCH, own, usual)


_WORDS = {
    CLOCK: ("runs at a lower clock", "hertz"),
    POWER: ("draws less power", "watts"),
    BANDWIDTH: ("moves less memory", "ratio"),
    LAUNCH: ("answers later", "seconds"),
}


def _finding(window: Window, gpu: Gpu, signal: str, own: float, usual: float) -> Finding:
    words, unit = _WORDS[signal]
    return Finding(
        kind=KIND.name,
        subject=subject_of(window, gpu=gpu.uuid),
        summary=f"GPU {gpu.index} {words} than its siblings: {own / usual:.0%} of their median.",
        result=Result.WARN,
        evidence=(
            Evidence(signal, own, unit, source="siblings"),
            Evidence(f"{signal}_of_siblings", usual, unit, source="siblings"),
        ),
    )
