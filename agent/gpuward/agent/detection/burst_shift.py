"""Whether bursts of one small measurement have become slower than usual, from their logarithms.

The usual is learned from the bursts themselves and kept; while there is evidence of a change it
stays as it is, because a fault must not become what is normal.  Two rules: CUSUM, for a shift of
any size that lasts, and three bursts in a row far outside of the usual spread, for one that nobody
can miss.  Getting faster is no trouble and is learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gpuward.agent.detection.cusum import MOST_BY_POINT, Side

# Five minutes of bursts, half an hour of copies.
LEARNING_POINTS = 30
# What is usual fades over so many points.
MEMORY_POINTS = 1_000.0
# No clock and no link is steadier than this.
LEAST_SPREAD = 0.005
FIRST_SPREAD = 0.02
# Standard deviation of normal noise by its mean absolute deviation.
BY_MEAN_DEVIATION = 1.2533
# A point further off counts as one of so many spreads (Huber).
ROBUST_BY_SPREAD = 3.0
ALLOWANCE = 0.5
# One false alarm in thirty days on a node of two hundred such series, by Siegmund's formula.
LIMIT = 16.6
MOST_BY_LIMIT = 1.2
SUSPECT_BY_LIMIT = 0.25
FAR_BY_SPREAD = 4.0
FAR_IN_A_ROW = 3
# So near to the usual, and so often in a row, that whatever was is over.
NEAR_BY_SPREAD = 1.0
NEAR_IN_A_ROW = 5
SHIFT_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Judged:
    """Of one burst: ``shift`` in logarithms, ``evidence`` by what an alarm takes."""

    shift: float
    evidence: float


@dataclass(slots=True)
class BurstShift:
    """What is known of one measurement in one state of its device."""

    points: int = 0
    usual: float = 0.0
    spread: float = FIRST_SPREAD
    sum: Side = field(default_factory=Side)
    far: int = 0
    near: int = 0
    shift: float = 0.0

    def judge(self, slowness: float, at_s: float) -> Judged | None:
        """Take in a burst's logarithm, more is slower; ``None`` while the usual is learned."""
        if self.points == 0:
            self.usual = slowness
        deviation = (slowness - self.usual) / max(LEAST_SPREAD, self.spread)
        if self.points < LEARNING_POINTS:
            self._learn(slowness)
            return None
        self._weigh(deviation, at_s)
        self.shift += SHIFT_WEIGHT * (slowness - self.usual - self.shift)
        evidence = self.sum.total / LIMIT
        if self.far >= FAR_IN_A_ROW:
            evidence = max(evidence, 1.0)
        if evidence < SUSPECT_BY_LIMIT:
            self._learn(slowness)
        return Judged(self.shift, evidence)

    def _weigh(self, deviation: float, at_s: float) -> None:
        self.far = self.far + 1 if deviation > FAR_BY_SPREAD else 0
        self.near = self.near + 1 if deviation < NEAR_BY_SPREAD else 0
        if self.near >= NEAR_IN_A_ROW:
            self.sum = Side(zero_s=at_s)
        bounded = max(-MOST_BY_POINT, min(MOST_BY_POINT, deviation))
        self.sum.add(bounded - ALLOWANCE, at_s, MOST_BY_LIMIT * LIMIT)

    def _learn(self, slowness: float) -> None:
        self.points += 1
        weight = 1.0 / min(self.points, MEMORY_POINTS)
        limit = ROBUST_BY_SPREAD * max(LEAST_SPREAD, self.spread)
        residual = max(-limit, min(limit, slowness - self.usual))
        self.usual += weight * residual
        self.spread += weight * (BY_MEAN_DEVIATION * abs(residual) - self.spread)
