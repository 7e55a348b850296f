"""The 95th percentile of the last minutes out of an engine's cumulative buckets.  Pure.

A percentile of so few requests that chance decides is none: it takes 20 / (1 - q) of them (400),
and while five minutes have fewer, the span grows, to an hour at most.  Inside a bucket latencies
are taken to be spread evenly on a logarithmic scale; beyond the last edge nothing can be
interpolated, so then only that edge is known, a lower bound.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.agent.engines.reading import Buckets

Q = 0.95
FEWEST = 400
SPAN_S = 300.0
LONGEST_SPAN_S = 3_600.0
# Spans begin at one of these looks: one each half a minute.
STEP_S = 30.0


@dataclass(frozen=True, slots=True)
class Percentile:
    """``seconds``, or more than that when ``is_beyond`` the last edge."""

    seconds: float
    is_beyond: bool = False


class RecentPercentile:
    """Follows one histogram of one engine."""

    def __init__(self) -> None:
        self._edges: tuple[float, ...] = ()
        # Counts of an hour, as numbers alone: as tuples they take four times the memory.
        self._looks: deque[tuple[float, array[float]]] = deque()
        self._last: tuple[float, ...] = ()

    def note(self, now_s: float, buckets: Buckets) -> Percentile | None:
        """Return the percentile now, ``None`` while too few requests are known."""
        if buckets.edges != self._edges or _fell(self._last, buckets.counts):
            self._looks.clear()
        self._edges, self._last = buckets.edges, buckets.counts
        while self._looks and now_s - self._looks[0][0] > LONGEST_SPAN_S:
            self._looks.popleft()
        found = self._of_shortest_span(now_s, buckets)
        if not self._looks or now_s - self._looks[-1][0] >= STEP_S:
            self._looks.append((now_s, array("d", buckets.counts)))
        return found

    def _of_shortest_span(self, now_s: float, buckets: Buckets) -> Percentile | None:
        for at_s, before in reversed(self._looks):
            if now_s - at_s >= SPAN_S and buckets.counts[-1] - before[-1] >= FEWEST:
                counts = [new - old for new, old in zip(buckets.counts, before, strict=True)]
                return percentile(buckets.edges, counts)
        return None


def percentile(edges: Sequence[float], counts: Sequence[float], q: float = Q) -> Percentile:
    """Return the ``q``-quantile of a histogram: ``counts[i] > 0`` lasted at most ``edges[i]``.

    ``edges`` rise to +Inf.  In the first bucket, which begins at 0, the scale is linear.
    """
    rank = q * counts[-1]
    at = next(i for i, count in enumerate(counts) if count >= rank)
    lower, below = (edges[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    upper = edges[at]
    if math.isinf(upper):
        return Percentile(lower, is_beyond=True)
    share = (rank - below) / (counts[at] - below) if counts[at] > below else 1.0
    if lower <= 0:
        return Percentile(lower + (upper - lower) * share)
    return Percentile(lower * (upper / lower) ** share)


def _fell(before: Sequence[float], after: Sequence[float]) -> bool:
    """Return whether the engine began anew."""
    return any(new < old for new, old in zip(after, before, strict=False))
