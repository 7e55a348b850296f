"""Sample how far each GPU is from what its probes were used to measure, learned over days.

A card has nothing else to be compared with when it has no siblings.  What is usual differs by
driver, by the clock that the card has at the moment and by whether it has work, so each of these
states has a usual of its own; they outlive the agent in a file of the state folder, as the best of
each card does (``learned_best``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from gpuward.agent.detection.burst_shift import BurstShift
from gpuward.agent.learned_file import LearnedFile
from gpuward.agent.model import Batch, Sample, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpuward.agent.window import Window

# By name of the figure: its signal, and whether more of it is slower.
FIGURES = {
    "event": ("gpu_probe_event_shortest_seconds", True),
    "clock": ("gpu_probe_clock_hertz", False),
    "host_to_device": ("gpu_probe_host_to_device_bytes_per_second", False),
    "device_to_host": ("gpu_probe_device_to_host_bytes_per_second", False),
    "device_copy": ("gpu_probe_device_copy_bytes_per_second", False),
}
CLOCK, MOST_CLOCK = "gpu_sm_clock_hertz", "gpu_sm_clock_max_hertz"
UTILIZATION = "gpu_utilization_ratio"
# A state holds clocks within a tenth of one another: the highest, a step below, and so on.
CLOCK_STEP = math.log(1.1)
BUSY_RATIO = 0.5
# Figures by states by cards, the ones that were not seen for longest are forgotten first.
MOST_KNOWN = 2_048
WRITTEN_EVERY_S = 300.0


class ProbeShift:
    """Learns from ``window`` and keeps what it learned at ``path``."""

    name = "probe_shift"
    period_s = 5.0

    def __init__(self, path: Path, window: Callable[[float], Window]) -> None:
        self._file = LearnedFile(path, BurstShift, most=MOST_KNOWN)
        self._window = window
        self._known = self._file.read()
        # By series, when the newest burst was that was taken in.
        self._seen_s: dict[SeriesKey, float] = {}
        self._written_s = float("-inf")
        self._is_unwritten = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._known:
            self._file.close(self._known)

    async def sample(self, now_s: float) -> Batch:
        samples = tuple(self._samples(self._window(now_s)))
        if self._is_unwritten and now_s - self._written_s >= WRITTEN_EVERY_S:
            self._written_s = now_s
            self._write()
        return Batch(samples=samples)

    def _samples(self, window: Window) -> Iterator[Sample]:
        for figure, (signal, is_time) in FIGURES.items():
            for key in window.keys(signal):
                burst = window.latest(key)
                if burst is None or burst.at_s <= self._seen_s.get(key, float("-inf")):
                    continue
                self._seen_s[key] = burst.at_s
                if burst.value > 0.0:
                    slowness = math.log(burst.value) if is_time else -math.log(burst.value)
                    yield from self._judge(window, figure, burst, slowness)

    def _judge(
        self, window: Window, figure: str, burst: Sample, slowness: float
    ) -> Iterator[Sample]:
        gpu = burst.key.gpu
        name = f"{gpu}|{figure}|{_state(window, gpu)}"
        # Anew at the end: the order is that of last use.
        known = self._known.pop(name) if name in self._known else BurstShift()
        self._known[name] = known
        judged = known.judge(slowness, burst.at_s)
        self._is_unwritten = True
        if judged is None:
            return
        for what, value in (("shift", math.exp(judged.shift) - 1.0), ("evidence", judged.evidence)):
            key = SeriesKey(f"gpu_probe_{figure}_{what}_ratio", gpu=gpu)
            yield Sample(key, burst.at_s, value)

    def _write(self) -> None:
        self._is_unwritten = not self._file.write(self._known)


def _state(window: Window, gpu: str) -> str:
    """Return driver, clock and whether there is work: what all figures depend on."""
    clock, most, utilization = (
        window.latest(SeriesKey(signal, gpu=gpu)) for signal in (CLOCK, MOST_CLOCK, UTILIZATION)
    )
    steps = "?"
    if clock and most and min(clock.value, most.value) > 0.0:
        steps = str(round(math.log(most.value / clock.value) / CLOCK_STEP))
    is_busy = utilization is not None and utilization.value >= BUSY_RATIO
    return f"{window.driver.version}|{steps}|{'busy' if is_busy else 'idle'}"
