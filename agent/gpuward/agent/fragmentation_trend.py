"""Where a level of memory is going: Theil-Sen over the minima of minutes, and when it arrives.

A forecast that is wrong is worse than none.  Measured on seeded ramps, naive 80 % intervals cover
only 18 to 75 %, and a tenth of windows without any trend look as if they rose; so a trend needs a
rise of four times the noise, certainty in the whole window and in its later half, and no plateau,
and a forecast's interval is widened.  Minima of a minute are taken because the floor is what stays
when the requests are gone; it also makes neighbouring points nearly independent.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import ceil, floor, sqrt
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.agent.model import Sample

# Both halves are judged: fewer points in the later one can show nothing with certainty.
LEAST_POINTS = 20
MOST_POINTS = 60
# Series whose last result is kept.
REMEMBERED = 128
# Normal quantiles: one-sided 99.5 %, two-sided 80 %.
SURE = 2.576
OF_80_PERCENT = 1.2816
WIDENED = 1.6
LEAST_RISE_BY_NOISE = 4.0
# Of the mean pace, in the last quarter: less is a plateau.
PLATEAU_PACE = 0.25
# The standard deviation of a normal distribution by its median absolute deviation.
SIGMA_BY_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Slope:
    """Change a second, with an interval; ``noise`` is the scatter around the line."""

    lowest: float
    middle: float
    highest: float
    noise: float


@dataclass(frozen=True, slots=True)
class Trend:
    """A level that moves with certainty: ``change`` is signed, over ``span_s``."""

    slope: Slope
    span_s: float
    level: float

    @property
    def change(self) -> float:
        return self.slope.middle * self.span_s

    @property
    def sure_rise(self) -> float:
        """Return the rise that is certain, 0 when it is not even certain that it rises."""
        return max(0.0, self.slope.lowest * self.span_s)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds until a falling level is at zero: an 80 % interval and its middle."""

    earliest_s: float
    middle_s: float
    latest_s: float


def theil_sen(points: Sequence[tuple[float, float]], quantile: float) -> Slope | None:
    """Return the median of all pairs' slopes, with Sen's rank interval; ``None`` of no pairs."""
    slopes = sorted((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))
    if not slopes:
        return None
    count, pairs = len(points), len(slopes)
    reach = quantile * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    lowest = slopes[max(0, floor((pairs - reach) / 2) - 1)]
    highest = slopes[min(pairs - 1, ceil((pairs + reach) / 2))]
    middle = median(slopes)
    rest = [y - middle * x for x, y in points]
    centre = median(rest)
    noise = SIGMA_BY_MAD * median(abs(value - centre) for value in rest)
    return Slope(lowest, middle, highest, noise)


def trend_of(floors: Sequence[Sample]) -> Trend | None:
    """Return the trend of minima, oldest first, or ``None``: too few, unsure or at a plateau."""
    return _trend(_packed(floors[-MOST_POINTS:]))


def forecast(floors: Sequence[Sample]) -> Forecast | None:
    """Return when a level that falls with certainty reaches zero."""
    return _forecast(_packed(floors[-MOST_POINTS:]))


def _packed(floors: Sequence[Sample]) -> bytes:
    """Return what is remembered of ``floors``: as tuples of floats it takes nine times the room."""
    times, values = [floor.at_s for floor in floors], [floor.value for floor in floors]
    return array("d", times + values).tobytes()


def _points(packed: bytes) -> list[tuple[float, float]]:
    """Return seconds since the first floor, and values."""
    figures = array("d", packed)
    count = len(figures) // 2
    times, values = figures[:count], figures[count:]
    return [(at_s - times[0], value) for at_s, value in zip(times, values, strict=True)]


# Asked every second of what changes every minute, and five milliseconds of work: remembered.
@lru_cache(REMEMBERED)
def _trend(packed: bytes) -> Trend | None:
    points = _points(packed)
    if len(points) < LEAST_POINTS:
        return None
    whole, later = theil_sen(points, SURE), theil_sen(points[len(points) // 2 :], SURE)
    end = theil_sen(points[-max(5, len(points) // 4) :], SURE)
    if whole is None or later is None or end is None:
        return None
    if _direction(whole) == 0 or _direction(whole) != _direction(later):
        return None
    span_s = points[-1][0]
    if abs(whole.middle) * span_s < LEAST_RISE_BY_NOISE * whole.noise:
        return None
    if end.middle / whole.middle < PLATEAU_PACE:
        return None
    return Trend(whole, span_s, median(value for _, value in points[-3:]))


@lru_cache(REMEMBERED)
def _forecast(packed: bytes) -> Forecast | None:
    trend = _trend(packed)
    if trend is None or trend.change >= 0:
        return None
    slope = theil_sen(_points(packed), OF_80_PERCENT)
    if slope is None:
        return None
    level = max(0.0, trend.level)
    middle = -slope.middle
    fastest = middle + WIDENED * (slope.middle - slope.lowest)
    slowest = middle - WIDENED * (slope.highest - slope.middle)
    if slowest <= 0:
        return None
    # What the level itself is unsure of counts as well.
    unsure = OF_80_PERCENT * WIDENED * slope.noise
    return Forecast(max(0.0, level - unsure) / fastest, level / middle, (level + unsure) / slowest)


def _direction(slope: Slope) -> int:
    return (slope.lowest > 0) - (slope.highest < 0)
