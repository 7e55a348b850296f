"""All causes for one replica: each is possible, ruled out by its gate, or out of sight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.diagnosis.considered import considered
from gpuward.agent.diagnosis.evidence import ITEMS
from gpuward.agent.diagnosis.hypotheses import HYPOTHESES
from gpuward.agent.diagnosis.seen import UNKNOWN, Presence, Seen
from gpuward.agent.diagnosis.verdict import weigh

PRESENT, ABSENT = Seen(Presence.PRESENT), Seen(Presence.ABSENT)


def of(name, **seen):
    """Return what is told of one cause; nothing else is there."""
    found = considered(weigh(dict.fromkeys(ITEMS, ABSENT) | seen))
    return next(each for each in found if each.hypothesis.name == name)


@pytest.mark.parametrize(
    ("name", "seen", "ruled_out", "unknown"),
    [
        pytest.param(
            "fragmentation",
            {},
            "not so: the allocator's memory is in pieces",
            "",
            id="its gate is shut",
        ),
        pytest.param(
            "fragmentation",
            {"fragmented": UNKNOWN, "allocator_retries": PRESENT},
            "",
            "the allocator's memory is in pieces",
            id="nobody sees the allocator",
        ),
        pytest.param(
            "power_cap",
            {"power_brake": UNKNOWN},
            "",
            "the power supply holds the clocks down",
            id="half of its gate was looked at",
        ),
        pytest.param(
            "power_cap",
            {},
            "not so: the power limit is below its default,"
            " nor: the power supply holds the clocks down",
            "",
            id="none of two",
        ),
        pytest.param(
            "kv_exhaustion",
            {"kv_cache_full": PRESENT, "arrivals_up": PRESENT, "batch_full": PRESENT},
            "more speaks against it than for it",
            "",
            id="its gate is open, and the rest contradicts",
        ),
        pytest.param(
            "gpu_slow",
            {"clock_low": PRESENT, "heat_slowdown": PRESENT},
            "what slows the GPU is known",
            "",
            id="it is said in particular",
        ),
    ],
)
def test_why_it_is_not(name, seen, ruled_out, unknown):
    told = of(name, **seen)

    assert (told.standing, told.ruled_out, told.unknown) == (None, ruled_out, unknown)


def test_the_possible_ones_come_as_ranked_with_their_weights():
    first, second, *rest = considered(
        weigh(dict.fromkeys(ITEMS, ABSENT) | {"heat_slowdown": PRESENT, "upstream_slow": PRESENT})
    )

    assert (first.hypothesis.name, second.hypothesis.name) == ("upstream", "thermal")
    assert first.standing.decibans > second.standing.decibans
    assert all(each.standing is None for each in rest)


@given(st.fixed_dictionaries({name: st.sampled_from((PRESENT, ABSENT, UNKNOWN)) for name in ITEMS}))
def test_whatever_is_seen_every_cause_is_told_once_and_is_one_of_three(seen):
    found = considered(weigh(seen))

    assert sorted(each.hypothesis.name for each in found) == sorted(it.name for it in HYPOTHESES)
    for each in found:
        assert 1 == (each.standing is not None) + bool(each.ruled_out) + bool(each.unknown)
