"""Add up samples of a page: a figure over its series, a histogram over its ranks.  Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import itemgetter, le
from typing import TYPE_CHECKING, Self

from gpuward.agent.engines.reading import Buckets, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    Values = Sequence[float]

# Where a sample stands on the page.
At = int

# Counters are whole numbers: from here on a float is not exact, and no engine counts so far.
MOST = 2.0**53
# Of requests at one time; a gauge of more is broken, and no message has room for it.
MOST_AT_ONCE = 2.0**31


@dataclass(frozen=True, slots=True)
class Sum:
    """Samples that are one figure; those of a group are copies of one another."""

    name: str
    groups: tuple[tuple[At, ...], ...]
    factor: float = 1.0
    is_largest: bool = False

    def of(self, values: Values, broken: list[str]) -> float | None:
        """Return it in our unit; ``None``, and said in ``broken``, when a part is no figure."""
        together = 0.0
        for group in self.groups:
            value = values[group[0]] if len(group) == 1 else max(values[at] for at in group)
            # Also false of NaN.
            if not 0 <= value <= MOST:
                broken.append(f"{self.name} is {value:g}")
                return None
            together = max(together, value) if self.is_largest else together + value
        return together * self.factor


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative buckets of all series of a histogram, edge by edge."""

    name: str
    edges: tuple[float, ...]
    # One for each series.
    counts: tuple[Callable[[Values], tuple[float, ...]], ...]

    @classmethod
    def of(cls, name: str, series: Collection[Mapping[float, At]]) -> Self | None:
        """Return the histogram of ``series``; ``None`` where no edge is common to all."""
        shared = set.intersection(*map(set, series)) if series else set()
        edges = tuple(sorted(shared))
        if len(edges) < 2 or edges[-1] != math.inf:  # noqa: PLR2004 - one edge and infinity
            return None
        return cls(name, edges, tuple(itemgetter(*(one[e] for e in edges)) for one in series))

    def buckets(self, values: Values, broken: list[str]) -> Buckets | None:
        """Return the buckets; ``None``, and said in ``broken``, when they are not cumulative."""
        total, *others = (counts(values) for counts in self.counts)
        for other in others:
            total = tuple(a + b for a, b in zip(total, other, strict=True))
        if total[0] >= 0 and all(map(le, total, total[1:])) and total[-1] <= MOST:
            return Buckets(self.edges, total)
        broken.append(f"{self.name} has buckets that fall")
        return None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a page has of a duration."""

    seconds: Sum | None = None
    count: Sum | None = None
    histogram: Histogram | None = None


def figure_of(name: str, terms: Sequence[Sum], values: Values, broken: list[str]) -> float | None:
    """Return the sum of ``terms``; ``None`` when there are none or one is broken."""
    total = 0.0
    for term in terms:
        value = term.of(values, broken)
        if value is None:
            return None
        total += value
    most = _most(name)
    if total > most:
        broken.append(f"{terms[0].name} is {total:g}, above {most:g}")
        return None
    return total if terms else None


def _most(name: str) -> float:
    """Return the largest value that a figure can have."""
    if name.endswith("_total"):
        return MOST
    return 1.0 if name.endswith("_ratio") else MOST_AT_ONCE


def timing_of(parts: Parts, values: Values, broken: list[str]) -> Timing | None:
    """Return the duration; ``None`` when the page has nothing of it."""
    seconds = parts.seconds.of(values, broken) if parts.seconds else None
    count = parts.count.of(values, broken) if parts.count else None
    buckets = parts.histogram.buckets(values, broken) if parts.histogram else None
    if seconds is None and buckets is None:
        return None
    if count is None and buckets is not None:
        count = buckets.counts[-1]
    return Timing(seconds, count, buckets)
