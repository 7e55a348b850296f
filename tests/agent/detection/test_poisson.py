"""Chances of counts, against a sum of two hundred digits."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.detection.poisson import chance_of_as_many


def tail(count, mean):
    """Return 1 - P(N < count), term by term."""
    with localcontext() as context:
        context.prec = 200
        term, below = (-Decimal(mean)).exp(), Decimal(0)
        for k in range(count):
            below += term
            term *= Decimal(mean) / (k + 1)
        return float(1 - below)


@given(st.integers(0, 200), st.floats(1e-3, 150.0))
def test_it_is_the_tail_of_poisson(count, mean):
    """At least as many; far out in the tail too, where 1 - cdf is nothing."""
    assert chance_of_as_many(count, mean) == pytest.approx(tail(count, mean), rel=1e-6, abs=1e-150)


def test_more_is_rarer():
    chances = [chance_of_as_many(count, 3.0) for count in range(30)]

    assert chances[0] == 1.0
    assert chances == sorted(chances, reverse=True)


def test_none_is_always_there():
    """Even where nothing is ever expected, and there one is no chance."""
    assert (chance_of_as_many(0, 0.0), chance_of_as_many(1, 0.0)) == (1.0, 0.0)


@pytest.mark.parametrize("count", [10_001, 10**9, int(1e300)])
def test_of_very_many_it_is_a_bound_and_quick(count):
    """Never below the chance, and 1 up to the mean."""
    assert chance_of_as_many(count, count * 2.0) == 1.0
    assert chance_of_as_many(count, count / 2.0) < 1e-100


def test_the_bound_begins_where_the_sum_ends():
    exact, bound = chance_of_as_many(10_000, 9_900.0), chance_of_as_many(10_001, 9_900.0)

    assert exact < bound < 10 * exact
