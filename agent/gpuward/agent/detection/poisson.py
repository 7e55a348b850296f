"""Whether a count is more than chance: counts of rare things are judged by Poisson, not by z-score.

A z-score of "usually 0.2, now 2" is nine standard deviations and happens every hour.
"""

from __future__ import annotations

from math import exp, lgamma, log

# Chance this small is no chance: once in thirty years of a judgement each minute.
IMPROBABLE = 1e-6


def chance_of_as_many(count: int, mean: float) -> float:
    """Return P(N >= ``count``) of a Poisson count with ``mean`` > 0."""
    if count <= 0:
        return 1.0
    if count <= mean:
        # Not improbable, and what is below the mean is all that there would be to sum.
        return 1.0 - sum(_probability(k, mean) for k in range(count))
    total, term, k = 0.0, _probability(count, mean), count
    while term > total * 1e-12:
        total += term
        k += 1
        term *= mean / k
    return total


def _probability(count: int, mean: float) -> float:
    return exp(count * log(mean) - mean - lgamma(count + 1))
