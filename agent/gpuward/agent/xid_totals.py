"""Count XIDs by GPU and code for Prometheus: how many, and when the last was.

An XID is an instant: a gauge that holds the last code says neither how many there were nor whether
it is news.  Counted are lines and reports, storms in full, since the beginning of the kernel's log:
more than the events that are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from gpuward.agent.model import Event
    from gpuward.daemon.clock import Clock

LABELS = ("gpu", "xid")
COUNT = ("gpuward_gpu_xids", "XIDs that the driver reported, by code.")
LAST = ("gpuward_gpu_xid_last_timestamp_seconds", "When it reported this XID last, as Unix time.")
# GPUs times codes that a node may show.
SERIES_LIMIT = 1_000
CORRECTED_S = 1.0


class XidTotals(Collector):
    """Counts that the kernel log's sampler adds to, and a scrape reads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall_offset_s = clock.wall_s() - clock.mono_s()
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}

    def add(self, event: Event) -> None:
        """Count ``event``."""
        key = (event.gpu, event.code)
        count, last_s = self._seen.get(key, (0, 0.0))
        if count or len(self._seen) < SERIES_LIMIT:
            self._seen[key] = (count + 1, max(last_s, event.at_s))

    def collect(self) -> Iterator[Metric]:
        self._follow_the_clock()
        count = CounterMetricFamily(*COUNT, labels=LABELS)
        last = GaugeMetricFamily(*LAST, labels=LABELS)
        for (gpu, code), (seen, last_s) in sorted(self._seen.items()):
            count.add_metric((gpu, str(code)), seen)
            last.add_metric((gpu, str(code)), last_s + self._wall_offset_s)
        if self._seen:
            yield count
            yield last

    def _follow_the_clock(self) -> None:
        """Correct the past when the wall clock was: many a node boots with a wrong one.

        By less than a second nothing changes, or each scrape would show another time.
        """
        offset_s = self._clock.wall_s() - self._clock.mono_s()
        if abs(offset_s - self._wall_offset_s) > CORRECTED_S:
            self._wall_offset_s = offset_s
