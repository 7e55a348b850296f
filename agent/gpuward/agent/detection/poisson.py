"""Whether a count is more than chance: counts of rare things are judged by Poisson, not by z-score.

A z-score of "usually 0.2, now 2" is nine standard deviations and happens every hour.
"""

from __future__ import annotations

from math import exp, lgamma, log

# Chance this small is no chance: once in two years of a judgement each minute.
IMPROBABLE = 1e-6
# From here on the sum would be long, and Chernoff's bound is as good.
MANY = 10_000


def chance_of_as_many(count: int, mean: float) -> float:
    """Return P(N >= ``count``) of a Poisson count with ``mean``; beyond ``MANY``, a bound of it."""
    if count <= 0:
        return 1.0
    if mean <= 0.0:
        return 0.0
    if count > MANY:
        return exp(count - mean - count * log(count / mean)) if count > mean else 1.0
    if count <= mean:
        return max(0.0, 1.0 - sum(_probability(k, mean) for k in range(count)))
    total, term, k = 0.0, _probability(count, mean), count
    while term > total * 1e-12:
        total += term
        k += 1
        term *= mean / k
    return total


def _probability(count: int, mean: float) -> float:
    return exp(count * log(mean) - mean - lgamma(count + 1))
