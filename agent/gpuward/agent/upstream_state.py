"""How upstreams fare: what own requests to them meet, and what their callers count.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.model import SeriesKey
from gpuward.agent.remembered import once_a_window

if TYPE_CHECKING:
    from gpuward.agent.window import Window

UP = "upstream_up"
PROBE = "upstream_probe_seconds"
PROBE_USUAL = "upstream_probe_usual_seconds"
REQUESTS = "upstream_requests_total"
FAILED = "upstream_requests_failed_total"
THROTTLED = "upstream_requests_throttled_total"
LATENCY_SUM = "upstream_latency_seconds_total"
LATENCY_COUNT = "upstream_latencies_total"
LATENCY_USUAL = "upstream_latency_usual_seconds"
# What is usual is still told while nothing else can be.
KNOWN_BY = (UP, REQUESTS, PROBE_USUAL, LATENCY_USUAL)

RECENT_S = 60.0
KEPT_S = 300.0
# Fewer say nothing of the next one.
LEAST_REQUESTS = 10.0
LEAST_PROBES = 3


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream in the last minute; ``None`` where nobody tells."""

    name: str
    # Own requests in a row that it did not answer, and when the first of them was.
    failures: int | None
    since_s: float | None
    probe_seconds: float | None
    probe_usual_seconds: float | None
    requests: float | None
    failed: float
    throttled: float
    latency_seconds: float | None
    latency_usual_seconds: float | None

    @property
    def is_known(self) -> bool:
        """Whether anything fresh tells of it."""
        return self.failures is not None or self.requests is not None


@once_a_window
def upstreams(window: Window) -> tuple[Upstream, ...]:
    """Return every upstream of which something is fresh, in order of first sight."""
    names = dict.fromkeys(key.endpoint for signal in KNOWN_BY for key in window.keys(signal))
    return tuple(_upstream(window, name) for name in names)


def recent_latency(window: Window, name: str) -> float | None:
    """Return the mean latency that callers counted in the last minute; ``None``: too few did."""
    since_s = window.now_s - RECENT_S
    count = window.risen(SeriesKey(LATENCY_COUNT, endpoint=name), since_s)
    if count < LEAST_REQUESTS:
        return None
    return window.risen(SeriesKey(LATENCY_SUM, endpoint=name), since_s) / count


def recent_probe(window: Window, name: str) -> float | None:
    """Return the median time of own requests in the last minute; ``None``: there are too few."""
    figures = window.figures(SeriesKey(PROBE, endpoint=name), window.now_s - RECENT_S)
    return median(figures) if len(figures) >= LEAST_PROBES else None


def _upstream(window: Window, name: str) -> Upstream:
    since_s = window.now_s - RECENT_S
    up = SeriesKey(UP, endpoint=name)
    failed = []
    for answer in reversed(window.values(up, window.now_s - KEPT_S)):
        if answer.value > 0:
            break
        failed.append(answer.at_s)
    requests = SeriesKey(REQUESTS, endpoint=name)
    is_counted = window.latest(requests) is not None
    return Upstream(
        name=name,
        failures=None if window.latest(up) is None else len(failed),
        since_s=failed[-1] if failed else None,
        probe_seconds=recent_probe(window, name),
        probe_usual_seconds=_latest(window, PROBE_USUAL, name),
        requests=window.risen(requests, since_s) if is_counted else None,
        failed=window.risen(SeriesKey(FAILED, endpoint=name), since_s),
        throttled=window.risen(SeriesKey(THROTTLED, endpoint=name), since_s),
        latency_seconds=recent_latency(window, name),
        latency_usual_seconds=_latest(window, LATENCY_USUAL, name),
    )


def _latest(window: Window, signal: str, name: str) -> float | None:
    newest = window.latest(SeriesKey(signal, endpoint=name))
    return None if newest is None else newest.value
