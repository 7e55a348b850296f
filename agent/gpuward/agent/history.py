"""An hour of the signals that explain an incident afterwards, one slot a second.

Each series is a ring of float32, one slot for each second of the monotonic clock, NaN where nothing
was known: 14 KiB a series, no timestamps.  The number of series is bounded; one that does not fit
is counted, not silently dropped.  A wrong figure here would be worse than a gap, so float32 is the
only rounding: seven digits, which is 4 KiB in 80 GiB.
"""

from __future__ import annotations

from array import array
from math import isnan, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuward.agent.model import Sample, SeriesKey

SLOTS = 3_600
MAX_SERIES = 250
# What a person asks about the hour before a page; the rest has five minutes in the window.
SIGNALS_KEPT = frozenset(
    {
        "driver_call_wait_seconds",
        "gpu_ecc_uncorrected_total",
        "gpu_memory_free_bytes",
        "gpu_memory_used_bytes",
        "gpu_power_draw_watts",
        "gpu_sm_clock_hertz",
        "gpu_temperature_celsius",
        "gpu_utilization_ratio",
        "probe_launch_seconds",
        "process_memory_active_bytes",
        "process_memory_headroom_bytes",
        "process_memory_reserved_bytes",
        "process_memory_stranded_bytes",
        "process_out_of_memory_total",
        "service_requests_failed_total",
        "service_requests_over_objective_total",
        "service_requests_running",
        "service_requests_total",
        "service_requests_waiting",
    }
)


class _Track:
    """One series; ``newest`` is the second of its newest value."""

    __slots__ = ("newest", "slots")

    def __init__(self, second: int) -> None:
        self.slots = array("f", (nan,)) * SLOTS
        self.newest = second

    def put(self, second: int, value: float) -> None:
        if second < self.newest:
            return
        for skipped in range(self.newest + 1, min(second, self.newest + SLOTS + 1)):
            self.slots[skipped % SLOTS] = nan
        self.slots[second % SLOTS] = value
        self.newest = second


class History:
    """The last hour of up to ``MAX_SERIES`` series."""

    def __init__(self) -> None:
        self._tracks: dict[SeriesKey, _Track] = {}
        self._refused: set[SeriesKey] = set()

    @property
    def series(self) -> int:
        """Return how many series are kept."""
        return len(self._tracks)

    @property
    def refused(self) -> int:
        """Return how many series did not fit since the last ``forget_old``."""
        return len(self._refused)

    def add(self, samples: Iterable[Sample]) -> None:
        """Keep the samples of signals in ``SIGNALS_KEPT``; one older than the newest is ignored."""
        for sample in samples:
            if sample.key.signal not in SIGNALS_KEPT:
                continue
            second = int(sample.at_s)
            track = self._tracks.get(sample.key)
            if track is None and len(self._tracks) >= MAX_SERIES:
                self._refused.add(sample.key)
                continue
            if track is None:
                track = self._tracks[sample.key] = _Track(second)
            track.put(second, sample.value)

    def forget_old(self, now_s: float) -> None:
        """Give back the place of every series that had no value for an hour."""
        oldest = int(now_s) - SLOTS
        for key in [key for key, track in self._tracks.items() if track.newest <= oldest]:
            del self._tracks[key]
        self._refused.clear()

    def points(
        self, key: SeriesKey, since_s: float, until_s: float
    ) -> Iterator[tuple[float, float]]:
        """Yield (monotonic second, value) with ``since_s <= second < until_s``, oldest first."""
        track = self._tracks.get(key)
        if track is None:
            return
        first = max(track.newest - SLOTS + 1, 0)
        for second in range(first, track.newest + 1):
            value = track.slots[second % SLOTS]
            if not isnan(value) and since_s <= second < until_s:
                yield float(second), value
