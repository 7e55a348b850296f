"""Storms: bounded in what they tell, true in what they count, the same when read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.model import Event
from gpuward.agent.xid_storm import Storms


def xid(code, at_s, gpu="GPU-1"):
    return Event("gpu.xid", at_s, f"{code}-{at_s}-{gpu}", code=code, gpu=gpu)


def told(events, until_s):
    """Return the events that are told when a turn comes every second until ``until_s``."""
    storms, found = Storms(), []
    waiting = sorted(events, key=lambda event: event.at_s)
    for now_s in range(until_s):
        while waiting and waiting[0].at_s <= now_s:
            found += storms.take(waiting.pop(0))
        found += storms.due(float(now_s))
    return found


def counts(events):
    return [event.values.get("xid_events", 1.0) for event in events]


@pytest.mark.parametrize(
    ("times", "counted"),
    [
        pytest.param([(31, 10)], [1.0] * 10, id="ten in a minute"),
        pytest.param([(31, 11)], [1.0] * 10 + [1.0], id="the eleventh comes a minute late"),
        pytest.param([(31, 500)], [1.0] * 10 + [490.0], id="a storm"),
        pytest.param([(45, 2)], [1.0, 1.0], id="clean-ups: one, then the rest"),
        pytest.param([(45, 300)], [1.0, 299.0], id="a storm of them"),
    ],
)
def test_in_one_second(times, counted):
    events = [xid(code, 1.0 + n / 1_000) for code, many in times for n in range(many)]

    assert counts(told(events, 100)) == counted


def test_one_a_minute():
    """672 XID 45 in three hours on one GPU: one event a minute at most, and every one counted."""
    events = [xid(45, 16.0 * n) for n in range(672)]
    found = told(events, 11_000)

    assert sum(counts(found)) == 672.0
    assert len(found) <= 11_000 / 60 + 1


def test_what_one_gpu_has_hides_nothing_of_another():
    """Nor another code, nor after an hour's peace."""
    storm = [xid(31, n / 100) for n in range(1_000)]
    others = [xid(31, 5.0, gpu="GPU-2"), xid(79, 5.0), xid(31, 4_000.0)]
    found = told([*storm, *others], 4_100)

    assert {event.identity for event in others} <= {event.identity for event in found}


@given(
    st.lists(
        st.tuples(st.sampled_from([31, 45, 79]), st.integers(0, 4_000).map(lambda n: n / 4)),
        max_size=120,
    )
)
def test_nothing_is_lost_and_a_second_reading_is_the_same(happened):
    """Every event is told or counted, and a log that is read at once tells what was told live."""
    events = [xid(code, at_s) for code, at_s in happened]
    live = told(events, 1_200)
    storms, again = Storms(), []
    for event in sorted(events, key=lambda event: event.at_s):
        again += storms.take(event)
    again += storms.due(1_200.0)

    assert sum(counts(live)) == len(events)
    assert sorted((e.identity, n) for e, n in zip(live, counts(live), strict=True)) == sorted(
        (e.identity, n) for e, n in zip(again, counts(again), strict=True)
    )
