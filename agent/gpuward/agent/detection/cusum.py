"""Two-sided CUSUM: evidence that a level has moved, added up point by point, and since when.

For a shift of known size nothing notices sooner at the same rate of false alarms (Lorden 1971,
Moustakides 1986): each point adds its deviation less an allowance, half of the shift that is worth
noticing; a sum never falls below 0, and the last time that it was 0 is when it began.
"""

from __future__ import annotations

from dataclasses import dataclass

# One point, however wild, is one point's evidence: a pause of the engine is no shift.
MOST_BY_POINT = 6.0


@dataclass(slots=True)
class Side:
    """The sum of one direction, in standard deviations; ``zero_s``: when it was last 0."""

    total: float = 0.0
    zero_s: float = 0.0
    # Highest since it was 0.
    peak: float = 0.0

    def add(self, evidence: float, at_s: float, most: float) -> float:
        """Add ``evidence``, at ``most`` up to that; return the peak of what has just ended, or 0.

        Without a bound a fault of an hour would take an hour to be over.
        """
        self.total = min(most, self.total + evidence)
        if self.total > 0.0:
            self.peak = max(self.peak, self.total)
            return 0.0
        ended, self.peak = self.peak, 0.0
        self.total, self.zero_s = 0.0, at_s
        return ended


@dataclass(slots=True)
class Cusum:
    """Both sums."""

    up: Side
    down: Side

    def add(self, deviation: float, allowance: float, at_s: float, most: float) -> float:
        """Add a point's ``deviation`` in its standard deviations; return as ``up.add`` does."""
        bounded = max(-MOST_BY_POINT, min(MOST_BY_POINT, deviation))
        self.down.add(-bounded - allowance, at_s, most)
        return self.up.add(bounded - allowance, at_s, most)


def new_cusum(at_s: float) -> Cusum:
    """Return sums that begin at ``at_s``."""
    return Cusum(Side(zero_s=at_s), Side(zero_s=at_s))
