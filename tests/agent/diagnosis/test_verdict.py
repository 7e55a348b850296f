"""How evidence is weighed: gates, groups, what is explained, ties, and what is said of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.diagnosis.evidence import CAPS, ITEMS, OPENING, Group
from gpuward.agent.diagnosis.hypotheses import BY_NAME, HYPOTHESES
from gpuward.agent.diagnosis.next_test import ALL_KNOWN, TESTS, next_test
from gpuward.agent.diagnosis.seen import UNKNOWN, Presence, Seen
from gpuward.agent.diagnosis.verdict import weigh
from gpuward.agent.model import Action

PRESENT, ABSENT = Seen(Presence.PRESENT), Seen(Presence.ABSENT)
HINT = Seen(Presence.PRESENT, strength=0.5)
NOTHING_KNOWN = dict.fromkeys(ITEMS, UNKNOWN)


def verdict(**seen):
    """Weigh what is known; of the rest nobody can say."""
    return weigh(NOTHING_KNOWN | seen)


def score(name, **seen):
    """Return the decibans of a hypothesis, 0 where it is not even possible."""
    ranked = {each.name: each.decibans for each in verdict(**seen).ranked}
    return ranked.get(name, 0.0)


def test_nothing_known_is_undetermined():
    found = verdict()

    assert (found.name, found.ranked, found.best) == ("undetermined", (), None)
    assert found.confidence == 0.05


@pytest.mark.parametrize("hypothesis", HYPOTHESES, ids=lambda each: each.name)
def test_without_its_gate_nothing_is_named(hypothesis):
    """Whatever else there is: no fragmentation without the allocator, no heat without heat."""
    everything = dict.fromkeys(ITEMS, PRESENT) | dict.fromkeys(hypothesis.gate, ABSENT)

    assert hypothesis.name not in {each.name for each in weigh(everything).ranked}


@pytest.mark.parametrize("hypothesis", HYPOTHESES, ids=lambda each: each.name)
def test_all_that_a_hypothesis_would_show_names_it(hypothesis):
    shown = {sign.item: PRESENT for sign in hypothesis.signs if sign.present > 0}
    shown |= {sign.item: ABSENT for sign in hypothesis.signs if sign.absent > 0 >= sign.present}

    assert verdict(**shown).name == hypothesis.name


def test_what_is_absent_speaks_against_and_what_is_unknown_does_not():
    assert score("thermal", heat_slowdown=PRESENT) == 25
    assert score("thermal", heat_slowdown=PRESENT, clock_low=ABSENT) == 22


def test_one_group_weighs_no_more_than_it_may():
    """Signs of one allocator are one witness."""
    signs = ("fragmented", "memory_refused", "allocator_retries", "headroom_low")
    found = score("fragmentation", **dict.fromkeys(signs, PRESENT))

    assert found == CAPS[Group.MEMORY] == 40


def test_a_hint_weighs_half():
    assert score("overload", queueing=HINT, arrivals_up=PRESENT) == 27.5


def test_what_has_a_cause_already_counts_half():
    queue = {"queueing": PRESENT, "batch_full": PRESENT}
    alone, behind_heat = (
        score("overload", **queue),
        score("overload", heat_slowdown=PRESENT, **queue),
    )

    assert (alone, behind_heat) == (27, 13.5)


def test_two_faults_with_evidence_of_their_own_are_both_named():
    found = verdict(heat_slowdown=PRESENT, upstream_slow=PRESENT)

    assert (found.name, found.runner_up.name) == ("thermal", "upstream")
    assert found.confidence > 0.8


def test_of_a_slow_gpu_the_particular_cause_is_said_and_not_the_general():
    slow = {"clock_low": PRESENT, "inter_token_slow": PRESENT}

    assert verdict(**slow).name == "gpu_slow"
    assert verdict(heat_slowdown=PRESENT, **slow).name == "thermal"
    assert "gpu_slow" not in {each.name for each in verdict(heat_slowdown=PRESENT, **slow).ranked}


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        pytest.param({"power_limit_lowered": PRESENT}, "undetermined", id="too little: 12"),
        pytest.param(
            {"power_limit_lowered": PRESENT, "heat_slowdown": ABSENT}, "power_cap", id="enough: 14"
        ),
    ],
)
def test_what_has_little_evidence_is_not_named(seen, name):
    found = verdict(**seen)

    assert (found.name, found.best.name) == (name, "power_cap")
    assert (found.confidence >= 0.8) == (name == "power_cap")


@pytest.mark.parametrize(
    ("seen", "confidence"),
    [
        # Ten decibans before what is not on the list, at the fitted temperature.
        pytest.param({"power_limit_lowered": PRESENT, "heat_slowdown": ABSENT}, 0.928, id="named"),
        pytest.param({"heat_slowdown": PRESENT}, 0.95, id="no more is claimed"),
        pytest.param({"power_limit_lowered": PRESENT}, 0.5, id="likely, and not named"),
        pytest.param(
            {"cpu_starved": HINT, "cpu_pressure": ABSENT, "probe_kernel_slow": PRESENT},
            0.375,
            id="less likely than what is not on the list",
        ),
    ],
)
def test_how_sure_it_is_said_to_be(seen, confidence):
    assert verdict(**seen).confidence == pytest.approx(confidence, abs=0.001)


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        pytest.param({"inter_token_slow": PRESENT}, "spin-gap", id="slow tokens, no probe"),
        pytest.param(
            {"inter_token_slow": PRESENT, "allocator_retries": PRESENT, "probe_preempted": ABSENT},
            "",
            id="some test there is",
        ),
        pytest.param({"cpu_pressure": PRESENT}, "processor", id="the host, without a probe of it"),
        pytest.param(
            {"upstream_slow": UNKNOWN, "queueing": PRESENT}, "requests a second", id="load"
        ),
    ],
)
def test_the_next_test_is_one_that_was_not_done(seen, word):
    found = verdict(**seen)

    assert word in next_test(found)
    assert next_test(found) in {TESTS[name] for name in TESTS if found.seen[name].is_unknown}


def test_when_all_was_done_a_person_must_read_on():
    assert next_test(weigh(dict.fromkeys(ITEMS, ABSENT))) == ALL_KNOWN


@given(st.fixed_dictionaries({name: st.sampled_from((PRESENT, ABSENT, UNKNOWN)) for name in ITEMS}))
def test_whatever_is_seen_a_verdict_keeps_its_promises(seen):
    found = weigh(seen)

    assert 0.05 <= found.confidence <= (0.95 if found.is_determined else 0.5)
    assert found == weigh(dict(reversed(seen.items())))
    assert [each.decibans for each in found.ranked] == sorted(
        (each.decibans for each in found.ranked), reverse=True
    )
    if found.is_determined:
        gate = BY_NAME[found.name].gate
        assert any(seen[item].is_present for item in gate)
    if not seen["fragmented"].is_present:
        assert found.name != "fragmentation"


def test_the_tables_speak_of_the_same():
    for hypothesis in HYPOTHESES:
        named = {sign.item for sign in hypothesis.signs}
        assert set(hypothesis.gate) <= named, hypothesis.name
        assert named | hypothesis.explains <= set(ITEMS), hypothesis.name
        assert hypothesis.parent in {"", "gpu_slow"}
        assert hypothesis.action is not Action.RESTART_APPLICATION, hypothesis.name
    assert set(OPENING) <= set(ITEMS)
    assert set(TESTS) <= set(ITEMS)
    assert set(CAPS) == set(Group)
    assert len(BY_NAME) == len(HYPOTHESES)
