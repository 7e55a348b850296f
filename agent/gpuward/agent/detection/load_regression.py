"""What the time between tokens should be at the load of the moment: recursive least squares.

A step of an engine takes ``a + b * prefill tokens + c * sequences + d * context``, so the raw time
moves with every rise of the traffic, and an alarm on it cries at noon.  The law is linear in what
engines tell, and its coefficients are learned from the engine itself: weighted by the time
expected, because the noise of steps is a share of them; robust, because a pause is no law; and
forgetful over a day, because workloads change.  Its one-step residuals, divided by
``sqrt(1 + leverage)``, are independent with one variance while the law holds (recursive residuals:
Brown, Durbin and Evans, 1975), and leverage grows where the load is one that was never seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

# A day of points, one each five seconds.
MEMORY_POINTS = 17_280.0
# Of a coefficient, by the square of the first time seen: at first it may be anything.
PRIOR_VARIANCE = 1e4
# Brings what a step does to about 1, so that one prior fits all.
USUAL_RUNNING = 32.0
USUAL_PREFILL_TOKENS = 256.0
# A residual beyond so many standard deviations counts as one of this size (Huber).
ROBUST_BY_SPREAD = 2.5
FEATURES = 5
# Expected is never less than this share of what is seen while the law is young.
LEAST_EXPECTED_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """What a mean step did: sequences, tokens of prompts beside them, and their context."""

    running: float
    prefill_tokens: float
    kv_cache_ratio: float

    @property
    def features(self) -> tuple[float, ...]:
        prefill = self.prefill_tokens / USUAL_PREFILL_TOKENS
        return (
            1.0,
            self.running / USUAL_RUNNING,
            prefill,
            self.kv_cache_ratio,
            # A step with a prompt in it is bound by arithmetic: the cache is read beside it.
            prefill * self.kv_cache_ratio,
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """``seconds`` at a load; ``leverage``: variance of that guess by the variance of a point."""

    seconds: float
    leverage: float


@dataclass(slots=True)
class LoadRegression:
    """Coefficients in seconds, and their covariance by the variance of a point."""

    coefficients: list[float] = field(default_factory=list)
    covariance: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        sizes = {len(row) for row in self.covariance} | {len(self.coefficients)}
        if len(self.covariance) != len(self.coefficients) or not sizes <= {0, FEATURES}:
            raise ValueError(f"not a law of {FEATURES} coefficients")

    def expect(self, load: Load) -> Expected | None:
        """Return the time at ``load``; ``None`` before the first point."""
        if not self.coefficients:
            return None
        features = load.features
        seconds = _product(self.coefficients, features)
        if seconds <= 0.0:
            # The law is too young to know better than the time at no load.
            seconds = max(self.coefficients[0], LEAST_EXPECTED_RATIO * abs(seconds), 1e-9)
        spread = _product(features, [_product(row, features) for row in self.covariance])
        return Expected(seconds, spread / seconds**2)

    def learn(self, load: Load, seconds: float, spread: float) -> None:
        """Take in that a token took ``seconds``; ``spread``: deviation of points, as a ratio."""
        features = load.features
        expected = self.expect(load)
        if expected is None:
            self._begin(features, seconds)
            return
        # By what is expected: by what is seen, slow points would weigh less than fast ones.
        scale = max(expected.seconds, LEAST_EXPECTED_RATIO * seconds)
        inputs = [feature / scale for feature in features]
        residual = seconds / scale - _product(self.coefficients, inputs)
        limit = ROBUST_BY_SPREAD * spread * sqrt(1.0 + expected.leverage)
        weight = min(1.0, limit / abs(residual)) if residual else 1.0
        gains = [_product(row, inputs) for row in self.covariance]
        by = 1.0 / weight + _product(inputs, gains)
        self.coefficients = [
            coefficient + gain * residual / by
            for coefficient, gain in zip(self.coefficients, gains, strict=True)
        ]
        self.covariance = [
            [value - gain * other / by for value, other in zip(row, gains, strict=True)]
            for row, gain in zip(self.covariance, gains, strict=True)
        ]
        self._forget()

    def _begin(self, features: tuple[float, ...], seconds: float) -> None:
        count = len(features)
        self.coefficients = [seconds] + [0.0] * (count - 1)
        self.covariance = [
            [PRIOR_VARIANCE * seconds**2 if row == column else 0.0 for column in range(count)]
            for row in range(count)
        ]

    def _forget(self) -> None:
        """Let old points count less; what no point has told of for a day gets no vaguer."""
        most = PRIOR_VARIANCE * self.coefficients[0] ** 2
        if sum(row[place] for place, row in enumerate(self.covariance)) >= most:
            return
        by = 1.0 + 1.0 / MEMORY_POINTS
        self.covariance = [[value * by for value in row] for row in self.covariance]


def _product(one: list[float] | tuple[float, ...], other: list[float] | tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
