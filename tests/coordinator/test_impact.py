"""What users feel, counted from cumulative counters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.coordinator.counting import Counting, measure
from gpuward.coordinator.impact import wilson_low
from gpuward.coordinator.model import ServiceTotals

T = 1_800_000_000.0


def look(samples, since_s=T, now_s=T + 300):
    return measure("chat", samples, since_s=since_s, now_s=now_s)


@pytest.mark.parametrize(
    ("hits", "n", "low"),
    [
        pytest.param(0, 0, 0.0, id="no requests"),
        pytest.param(0, 100, 0.0, id="no hits"),
        # R: binom::binom.wilson(50, 100) = 0.4038315 .. 0.5961685
        pytest.param(50, 100, 0.4038315, id="half of a hundred"),
        # R: binom.wilson(30, 30) = 0.8864863 .. 1
        pytest.param(30, 30, 0.8864863, id="all of thirty"),
        pytest.param(3, 4, 0.3006418, id="three of four"),
    ],
)
def test_wilson(hits, n, low):
    assert low == pytest.approx(wilson_low(hits, n), abs=1e-6)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_the_lower_bound_is_below_the_share(hits, n):
    hits = min(hits, n)

    assert 0.0 <= wilson_low(hits, n) <= hits / n
    assert wilson_low(hits, n) <= wilson_low(hits * 10, n * 10)


def test_counts_are_differences(make):
    samples = [make.totals(T - 5, 100, 1), make.totals(T + 5, 150, 3), make.totals(T + 290, 400, 9)]

    impact = look(samples)

    assert (300, 8) == (impact.requests, impact.failed)
    assert T + 5 == impact.hurt_since_s


def test_timeouts_count_as_failed_and_slow_ones_apart(make):
    before = make.totals(T - 5)
    after = make.totals(T + 5, 100, 2, timed_out=3, over_objective=40)

    impact = look([before, after])

    assert (5, 40) == (impact.failed, impact.slow)
    assert impact.slow_share_low == wilson_low(40, 95)


def test_without_a_reading_before_there_is_no_difference(make):
    """An instance first seen with a million old requests has told nothing of the window."""
    assert 0 == look([make.totals(T + 5, 1_000_000, 9)]).requests


def test_an_instance_that_started_inside_the_window_counts_in_full(make):
    impact = look([make.totals(T + 5, 40, 2, started_at_s=T + 1)])

    assert (40, 2) == (impact.requests, impact.failed)


@pytest.mark.parametrize(
    "started_at_s",
    [
        pytest.param(T + 50, id="the start time says so"),
        pytest.param(T - 86_400, id="only the counters fell"),
    ],
)
def test_a_restart_begins_at_zero(make, started_at_s):
    samples = [
        make.totals(T - 5, 1000, 10),
        make.totals(T + 40, 1100, 12),
        make.totals(T + 60, 30, 1, started_at_s=started_at_s),
    ]

    assert (130, 3) == (look(samples).requests, look(samples).failed)


def test_a_restart_that_has_already_served_more_than_before(make):
    samples = [
        make.totals(T - 5, 10, 1),
        make.totals(T + 60, 30, 2, started_at_s=T - 4),
    ]

    assert (30, 2) == (look(samples).requests, look(samples).failed)


def test_instances_add_up_and_silent_ones_are_not_ready(make):
    samples = [
        make.totals(T - 5, instance="a"),
        make.totals(T + 290, 100, 1, instance="a"),
        make.totals(T - 5, instance="b", node="n2"),
        make.totals(T + 10, 50, 5, instance="b", node="n2"),
    ]

    impact = look(samples)

    assert (150, 6) == (impact.requests, impact.failed)
    assert (2, 1, 1) == (impact.instances, impact.ready, impact.silent)
    assert frozenset({"n1", "n2"}) == impact.nodes


@pytest.mark.parametrize(
    ("readings", "for_s"),
    [
        pytest.param([(200, False), (290, False)], 100, id="not ready since the first of the run"),
        pytest.param([(200, False), (280, True), (290, False)], 10, id="ready in between"),
        pytest.param([(200, False), (290, True)], 0, id="ready now"),
    ],
)
def test_unready_for(make, readings, for_s):
    samples = [make.totals(T + at, ready=ready) for at, ready in readings]

    assert for_s == look(samples).unready_for_s


def test_one_ready_instance_is_enough(make):
    samples = [
        make.totals(T + 200, instance="a", ready=False),
        make.totals(T + 290, instance="a", ready=False),
        make.totals(T + 290, instance="b"),
    ]

    assert 0 == look(samples).unready_for_s


@pytest.mark.parametrize(
    ("readings", "for_s"),
    [
        pytest.param([(200, 10, 1), (290, 10, 1)], 100, id="nothing completes"),
        pytest.param([(200, 10, 1), (290, 11, 1)], 10, id="one completed"),
        pytest.param([(200, 10, 0), (290, 10, 0)], 0, id="nothing in flight"),
    ],
)
def test_stalled_for(make, readings, for_s):
    samples = [make.totals(T + at, n, running=running) for at, n, running in readings]

    assert for_s == look(samples).stalled_for_s


@given(st.permutations(range(4)))
def test_order_does_not_matter(order):
    samples = [
        ServiceTotals("chat", "a", "n", T - 900, T + i * 9, T + i * 9, requests=i * 10, failed=i)
        for i in range(4)
    ]

    assert look(samples) == look([samples[i] for i in order])


@st.composite
def histories(draw):
    """Readings of three instances over ten minutes, restarts among them, as they come."""
    readings = []
    for instance in "abc":
        requests = failed = 0
        started_s = T - draw(st.integers(1, 900))
        at_s = T - 300
        for _ in range(draw(st.integers(0, 12))):
            at_s += draw(st.integers(1, 60))
            if draw(st.integers(0, 5)) == 0:
                requests = failed = 0
                started_s = at_s - draw(st.integers(0, 20))
            requests += draw(st.integers(0, 30))
            failed += draw(st.integers(0, 3))
            about = {"ready": draw(st.booleans()), "running": draw(st.integers(0, 1))}
            readings.append(
                ServiceTotals(
                    *("chat", instance, "n", started_s, at_s, at_s),
                    requests=requests,
                    failed=failed,
                    **about,
                )
            )
    return sorted(readings, key=lambda reading: (reading.received_at_s, reading.instance))


@given(histories(), st.lists(st.integers(0, 600), max_size=8))
def test_counting_as_readings_come_is_counting_all_of_them_at_once(readings, looks):
    counting = Counting("chat")
    known = []
    for now_s in sorted(T - 300 + look_s for look_s in looks):
        new = [it for it in readings if it not in known and it.received_at_s <= now_s]
        # Readings that were seen before come again with every look, and change nothing.
        for reading in [*known[-3:], *new]:
            counting.add(reading)
        known += new

        at_once = measure("chat", known, since_s=now_s - 120, now_s=now_s)

        assert at_once == counting.impact(now_s - 120, now_s)
        # Of a start in the future (clocks differ) no replica was there to be told apart.
        if any(it.started_at_s > it.received_at_s for it in known):
            continue
        parts = [each.impact for each in counting.replicas(now_s - 120, now_s)]
        assert (at_once.requests, at_once.failed, at_once.slow) == (
            sum(part.requests for part in parts),
            sum(part.failed for part in parts),
            sum(part.slow for part in parts),
        )
        assert (at_once.instances, at_once.ready) == (len(parts), sum(p.ready for p in parts))


def test_what_comes_late_is_in_the_reading_after_it(make):
    counting = Counting("chat")
    for at_s, requests in ((T - 5, 100), (T + 20, 160), (T + 10, 130)):
        counting.add(make.totals(at_s, requests))

    assert 60 == counting.impact(T, T + 30).requests


def test_an_instance_that_is_forgotten_begins_anew(make):
    counting = Counting("chat")
    counting.add(make.totals(T, 100))
    counting.forget(T + 1)
    assert counting.is_empty

    counting.add(make.totals(T + 10, 160))

    assert 0 == counting.impact(T + 5, T + 20).requests


def test_a_replica_is_told_apart(make):
    """What each adds, where it runs and since when; one that is silent says nothing of now."""
    counting = Counting("chat")
    for name, failed, until_s in (("n1", 40, 300), ("n2", 0, 300), ("n3", 0, 254)):
        for at_s, requests, failures in ((0, 0, 0), (until_s, 100, failed)):
            node = {"instance": f"{name}:1", "node": name}
            counting.add(make.totals(T + at_s, requests, failures, ready=False, waiting=1, **node))
    counting.impact(T, T + 300)

    sick, well, silent = counting.replicas(T, T + 300)

    assert ("n1:1", "n1", T - 86_400) == (sick.instance, sick.node, sick.started_at_s)
    assert (100, 40, 300) == (sick.impact.requests, sick.impact.failed, sick.impact.unready_for_s)
    assert (100, 0) == (well.impact.requests, well.impact.failed)
    assert (False, 0, 1) == (silent.is_heard, silent.impact.unready_for_s, silent.impact.silent)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        pytest.param({}, None, id="nothing is known"),
        pytest.param({"version": "2", "previous_version": "1"}, None, id="since nobody knows when"),
        pytest.param(
            {"version": "2", "previous_version": "1", "changed_at_s": 9.0},
            "version 1 to 2",
            id="another version",
        ),
        pytest.param(
            {
                "model": "b",
                "previous_model": "a",
                "version": "2",
                "previous_version": "1",
                "changed_at_s": 9.0,
            },
            "model a to b and from version 1 to 2",
            id="and another model",
        ),
        pytest.param({"version": "2", "changed_at_s": 9.0}, None, id="from nobody knows what"),
    ],
)
def test_what_a_replica_runs_now(told, words):
    counting = Counting("chat")
    counting.add(ServiceTotals("chat", "a", "n", 1.0, T, T, **told))
    (replica,) = counting.replicas(T - 1, T)

    assert (replica.changed and replica.changed.words) == words
