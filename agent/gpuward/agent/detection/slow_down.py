"""Whether an engine has become slower than it was at the same load, by how much, and since when.

Put together of the law of its load, the spread around it, and a CUSUM.  While there is evidence of
a change nothing is learned: a fault must not become what is normal.  An engine that has become
faster is begun anew, and so is one that has been slow for a day: whoever is told of it has been.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING

from gpuward.agent.detection.alarm_limit import AlarmLimit
from gpuward.agent.detection.cusum import Cusum, new_cusum
from gpuward.agent.detection.load_regression import LoadRegression

if TYPE_CHECKING:
    from gpuward.agent.detection.load_regression import Load

# Ten minutes with traffic before anything is judged.
LEARNING_POINTS = 120
# The first residuals are those of a law that is not there yet.
UNSETTLED_POINTS = 12
# Half of the smallest shift worth a ticket, which is 5 %.
LEAST_ALLOWANCE_RATIO = 0.025
# Half a standard deviation, where that is more.
ALLOWANCE = 0.5
# The law is never better than this, and nor are the engine's own counters.
LEAST_SPREAD = 0.01
SPREAD_POINTS = 2_000.0
# A point this far off says nothing of the usual spread.
MOST_BY_SPREAD = 3.0
# Weight of a point in the shift that is shown.
SHIFT_WEIGHT = 0.1
# Evidence is held at so many times the limit: what is over shall be over soon.
MOST_BY_LIMIT = 1.5
# From here on a change may be under way, and nothing is learned.
SUSPECT_BY_LIMIT = 0.5
ACCEPTED_AFTER_POINTS = 17_280


@dataclass(frozen=True, slots=True)
class Judged:
    """Of one point; ``evidence``: by what an alarm takes; ``since_s``: of the last that was none.

    ``evidence`` and ``since_s`` are ``None`` while it is learned what is usual.
    """

    expected_s: float
    shift_ratio: float
    evidence: float | None
    since_s: float | None


@dataclass(slots=True)
class SlowDown:
    """What is known of one engine, from its first point on."""

    law: LoadRegression = field(default_factory=LoadRegression)
    limit: AlarmLimit = field(default_factory=AlarmLimit)
    cusum: Cusum = field(default_factory=lambda: new_cusum(0.0))
    points: int = 0
    variance: float = 0.05**2
    # Of all points, older ones less; and of those since the evidence was nothing.
    shift_ratio: float = 0.0
    shift_since_ratio: float = 0.0
    points_since: int = 0
    points_in_alarm: int = 0

    def judge(self, load: Load, seconds: float, at_s: float) -> Judged | None:
        """Return what a token that took ``seconds`` says; ``None`` of the very first."""
        expected = self.law.expect(load)
        if expected is None:
            self.cusum = new_cusum(at_s)
            self.law.learn(load, seconds, self.spread)
            return None
        residual = seconds / expected.seconds - 1.0
        certainty = 1.0 / sqrt(1.0 + expected.leverage)
        is_learning = self.points < LEARNING_POINTS
        if not is_learning:
            self._weigh(residual * certainty, certainty, at_s)
        self._note_shift(residual)
        if is_learning or self._is_quiet:
            self._learn(load, seconds, residual * certainty)
        if self._is_another:
            self._begin_anew(at_s)
        if is_learning:
            return Judged(expected.seconds, 0.0, None, None)
        evidence = self.cusum.up.total / self.limit.value
        # A mean of all would be behind what is only now beginning.
        shift_ratio = self.shift_ratio if self._is_quiet else self.shift_since_ratio
        return Judged(expected.seconds, shift_ratio, evidence, self.cusum.up.zero_s)

    @property
    def spread(self) -> float:
        return max(LEAST_SPREAD, sqrt(self.variance))

    def _weigh(self, residual: float, certainty: float, at_s: float) -> None:
        spread, limit = self.spread, self.limit.value
        allowance = max(ALLOWANCE, LEAST_ALLOWANCE_RATIO * certainty / spread)
        peak = self.cusum.add(residual / spread, allowance, at_s, MOST_BY_LIMIT * limit)
        if peak < limit:
            self.limit.note(peak)
        is_alarm = self.cusum.up.total >= limit
        self.points_in_alarm = self.points_in_alarm + 1 if is_alarm else 0

    def _note_shift(self, residual: float) -> None:
        self.shift_ratio += SHIFT_WEIGHT * (residual - self.shift_ratio)
        self.points_since = self.points_since + 1 if self.cusum.up.total > 0.0 else 0
        weight = max(SHIFT_WEIGHT, 1.0 / max(1, self.points_since))
        self.shift_since_ratio += weight * (residual - self.shift_since_ratio)

    @property
    def _is_quiet(self) -> bool:
        suspect = SUSPECT_BY_LIMIT * self.limit.value
        return max(self.cusum.up.total, self.cusum.down.total) < suspect

    @property
    def _is_another(self) -> bool:
        is_faster = self.cusum.down.total >= self.limit.value
        return is_faster or self.points_in_alarm >= ACCEPTED_AFTER_POINTS

    def _learn(self, load: Load, seconds: float, residual: float) -> None:
        self.law.learn(load, seconds, self.spread)
        self.points += 1
        if self.points > UNSETTLED_POINTS:
            count = min(self.points - UNSETTLED_POINTS, SPREAD_POINTS)
            bounded = min(residual**2, MOST_BY_SPREAD**2 * self.variance)
            self.variance += (bounded - self.variance) / (count + 1)

    def _begin_anew(self, at_s: float) -> None:
        self.law, self.cusum = LoadRegression(), new_cusum(at_s)
        self.points = self.points_since = self.points_in_alarm = 0
        self.shift_ratio = self.shift_since_ratio = 0.0
