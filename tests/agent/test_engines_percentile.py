"""The 95th percentile of an engine's buckets: of enough requests, of deltas, honest at the end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.engines.percentile import Percentile, RecentPercentile, percentile
from gpuward.agent.engines.reading import Buckets

EDGES = (0.1, 1.0, 10.0, math.inf)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param((0, 0, 100, 100), Percentile(1.0 * 10**0.95), id="between edges"),
        pytest.param((0, 90, 100, 100), Percentile(10**0.5), id="half of the bucket's tenth"),
        pytest.param((0, 95, 100, 100), Percentile(1.0), id="at an edge"),
        pytest.param((100, 100, 100, 100), Percentile(0.095), id="the first begins at 0"),
        pytest.param((0, 0, 94, 100), Percentile(10.0, is_beyond=True), id="beyond the last"),
        pytest.param((0, 0, 0, 100), Percentile(10.0, is_beyond=True), id="all beyond it"),
        pytest.param((0, 0, 95, 100), Percentile(10.0), id="just not beyond"),
    ],
)
def test_percentile(counts, expected):
    """Inside a bucket the scale is logarithmic, as latencies are."""
    found = percentile(EDGES, [float(count) for count in counts])

    assert found.seconds == pytest.approx(expected.seconds)
    assert found.is_beyond == expected.is_beyond


@given(st.lists(st.floats(0.001, 9.9), min_size=1, max_size=200))
def test_it_lies_in_the_bucket_of_the_true_one(latencies):
    """However latencies are spread, the bucket is right; only the place in it is a guess."""
    edges = (*(0.001 * 1.5**n for n in range(1, 24)), math.inf)
    counts = [float(sum(one <= edge for one in latencies)) for edge in edges]
    true = sorted(latencies)[math.ceil(0.95 * len(latencies)) - 1]

    found = percentile(edges, counts)

    at = next(i for i, edge in enumerate(edges) if true <= edge)
    lower = edges[at - 1] if at else 0.0
    assert lower <= found.seconds <= edges[at] * (1 + 1e-12)
    assert found.is_beyond is math.isinf(edges[at])


class Engine:
    """An engine that is looked at every five seconds."""

    def __init__(self):
        self.now_s = 1_000.0
        self.counts = [0.0] * len(EDGES)
        self.recent = RecentPercentile()

    def look(self, *, at=None, requests=0.0, step_s=5.0):
        """Finish ``requests`` in the bucket ``at`` and look."""
        self.now_s += step_s
        if at is not None:
            for place in range(at, len(EDGES)):
                self.counts[place] += requests
        return self.recent.note(self.now_s, Buckets(EDGES, tuple(self.counts)))


def test_only_the_last_minutes_count():
    """Slow requests of six minutes ago are no longer in it."""
    engine = Engine()
    for _ in range(60):
        engine.look(at=2, requests=100)
    for _ in range(72):
        found = engine.look(at=0, requests=100)

    assert found.seconds <= 0.1


@pytest.mark.parametrize(
    ("requests", "is_told"),
    [pytest.param(399, False, id="too few"), pytest.param(400, True, id="enough")],
)
def test_few_requests_have_no_percentile(requests, is_told):
    """20 / (1 - 0.95): of fewer, chance decides."""
    engine = Engine()
    engine.look()
    engine.look(at=1, requests=requests)
    for _ in range(60):
        found = engine.look()

    assert (found is not None) is is_told


def test_the_span_grows_until_there_are_enough():
    """One request each five seconds: 400 of them took over half an hour."""
    engine = Engine()
    told = [engine.look(at=1, requests=1.0) is not None for _ in range(500)]

    first = told.index(True)
    assert 400 <= first <= 407
    assert all(told[first:])


@pytest.mark.parametrize(
    ("age_s", "is_told"),
    [pytest.param(3_600.0, True, id="just"), pytest.param(3_601.0, False, id="over")],
)
def test_what_is_over_an_hour_old_never_counts(age_s, is_told):
    """A quiet engine: its 400 requests came at once, between the first two looks."""
    engine = Engine()
    engine.look()
    engine.look(at=1, requests=400, step_s=30.0)
    found = engine.look(step_s=age_s - 30.0)

    assert (found is not None) is is_told


def test_five_minutes_must_have_passed():
    """A busy engine too: the first seconds are not the last five minutes."""
    engine = Engine()
    told = [engine.look(at=1, requests=1_000.0) is not None for _ in range(70)]

    assert told.index(True) == 60


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(Buckets(EDGES, (0.0, 1.0, 1.0, 5_000.0)), id="a bucket fell"),
        pytest.param(Buckets((0.2, *EDGES[1:]), (0.0, 9e4, 9e4, 9e4)), id="other edges"),
    ],
)
def test_a_restart_begins_anew(after):
    """What was counted before a restart is not subtracted from what is counted after it."""
    engine = Engine()
    for _ in range(70):
        engine.look(at=1, requests=100)

    assert engine.recent.note(engine.now_s + 5.0, after) is None
    assert engine.recent.note(engine.now_s + 100.0, after) is None
