"""One cause for a service from what its nodes tell, or none: the scenarios that people meet."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.coordinator.diagnosis.values import Case
from gpuward.coordinator.diagnosis.weigh import diagnose, is_news
from gpuward.coordinator.model import CauseDomain

MINUTE_S = 60.0


def everywhere(lab, cause, count, **changes):
    return [lab.verdict(number, cause, **changes) for number in range(1, count + 1)]


def overload(lab, numbers, **changes):
    return [lab.verdict(number, "overload", **changes) for number in numbers]


SCENARIOS = {
    "the same at all replicas is the service's": (
        lambda lab: (lab.replicas(4), everywhere(lab, "overload", 4)),
        ("overload", "all", ""),
    ),
    "larger requests at all": (
        lambda lab: (lab.replicas(3), everywhere(lab, "input_anomaly", 3)),
        ("input_anomaly", "all", ""),
    ),
    "most of them are enough": (
        lambda lab: (lab.replicas(4), overload(lab, (1, 2, 3))),
        ("overload", "several", ""),
    ),
    "one sick GPU while the others are well": (
        lambda lab: (lab.replicas(1, 3), [lab.verdict(1, "thermal", gpu="GPU-0123456789ab")]),
        ("thermal", "one", "n1:8000 (GPU-01234567)"),
    ),
    "one sick GPU, and its load moves to the others": (
        lambda lab: (
            lab.replicas(4),
            [lab.verdict(1, "gpu_lost", confidence=0.95), *overload(lab, (2, 3, 4))],
        ),
        ("gpu_lost", "one", "n1:8000"),
    ),
    "one of six is missed by the others": (
        lambda lab: (
            lab.replicas(6),
            [lab.verdict(1, "gpu_lost", confidence=0.95), *overload(lab, range(2, 7))],
        ),
        ("gpu_lost", "one", "n1:8000"),
    ),
    "one of seven is not": (
        lambda lab: (
            lab.replicas(7),
            [lab.verdict(1, "gpu_lost", confidence=0.95), *overload(lab, range(2, 8))],
        ),
        ("overload", "several", ""),
    ),
    "what came a minute later may follow": (
        lambda lab: (
            lab.replicas(4),
            [
                lab.verdict(1, "gpu_lost", confidence=0.95, since_s=lab.onset_s + MINUTE_S),
                *overload(lab, (2, 3, 4)),
            ],
        ),
        ("gpu_lost", "one", "n1:8000"),
    ),
    "what was there before does not follow": (
        lambda lab: (
            lab.replicas(4),
            [
                lab.verdict(1, "gpu_lost", confidence=0.95, since_s=lab.onset_s + MINUTE_S + 1),
                *overload(lab, (2, 3, 4)),
            ],
        ),
        ("overload", "several", ""),
    ),
    "the same sickness on several nodes": (
        lambda lab: (lab.replicas(3, 1), everywhere(lab, "thermal", 3)),
        ("thermal", "several", ""),
    ),
    "one replica gets too much while the others are well": (
        lambda lab: (lab.replicas(1, 3), overload(lab, (1,))),
        ("uneven_load", "one", "n1:8000"),
    ),
    "two of three others that are known to be well": (
        lambda lab: (
            [*lab.replicas(1, 2), lab.replica(4, hurt=None)],
            overload(lab, (1,)),
        ),
        ("uneven_load", "one", "n1:8000"),
    ),
    "one of three others may be less than the half": (
        lambda lab: (
            [*lab.replicas(1, 1), lab.replica(3, hurt=None), lab.replica(4, hurt=None)],
            overload(lab, (1,)),
        ),
        ("overload", "one", ""),
    ),
    "a node's word does not stand for what hurts users elsewhere": (
        lambda lab: (lab.replicas(4), [lab.verdict(1, "host_cpu", confidence=0.8)]),
        ("undetermined", "none", ""),
    ),
    "nor for a replica whose users are well": (
        lambda lab: (
            [lab.replica(1), lab.replica(2, hurt=True)],
            [lab.verdict(1, "host_cpu", confidence=0.95)],
        ),
        ("undetermined", "none", ""),
    ),
    "a sure cause where users are well, and a less sure one where they are hurt": (
        lambda lab: (
            [lab.replica(1), lab.replica(2), lab.replica(3), lab.replica(4, hurt=True)],
            [
                *everywhere(lab, "thermal", 3, confidence=0.95),
                lab.verdict(4, "host_cpu", confidence=0.8),
            ],
        ),
        ("host_cpu", "one", "n4:8000"),
    ),
    "a sure word on the only replica stands": (
        lambda lab: (lab.replicas(1), [lab.verdict(1, "host_cpu", confidence=0.8)]),
        ("host_cpu", "one", "n1:8000"),
    ),
    "just less than sure does not": (
        lambda lab: (lab.replicas(1), [lab.verdict(1, "host_cpu", confidence=0.79)]),
        ("undetermined", "none", ""),
    ),
    "an upstream that all wait for": (
        lambda lab: (
            lab.replicas(2),
            [
                *everywhere(lab, "upstream", 2, facts={"upstream": "vectors"}),
                lab.upstream(1),
                lab.upstream(2),
            ],
        ),
        ("upstream", "all", "vectors"),
    ),
    "a slow upstream alone, seen by one node, is not enough": (
        lambda lab: (lab.replicas(2), [lab.upstream(1)]),
        ("undetermined", "none", ""),
    ),
    "another service that is slow for it makes it enough": (
        lambda lab: (
            lab.replicas(2),
            [
                lab.upstream(1),
                lab.verdict(9, "upstream", service="embed", facts={"upstream": "vectors"}),
            ],
        ),
        ("upstream", "one", "vectors"),
    ),
    "so does that it is down": (
        lambda lab: (lab.replicas(2), [lab.upstream(1, kind="service.upstream.down")]),
        ("upstream", "one", "vectors"),
    ),
    "another service that blames another upstream says nothing": (
        lambda lab: (
            lab.replicas(2),
            [
                lab.upstream(1),
                lab.verdict(9, "upstream", service="embed", facts={"upstream": "features"}),
            ],
        ),
        ("undetermined", "none", ""),
    ),
    "a queue before an upstream that is down, without more requests": (
        lambda lab: (
            lab.replicas(2),
            [
                *everywhere(lab, "overload", 2),
                lab.upstream(1, kind="service.upstream.down"),
                lab.upstream(2, kind="service.upstream.down"),
            ],
        ),
        ("upstream", "all", "vectors"),
    ),
    "a queue before one that is only slow can be either": (
        lambda lab: (
            lab.replicas(2),
            [*everywhere(lab, "overload", 2), lab.upstream(1), lab.upstream(2)],
        ),
        ("undetermined", "none", ""),
    ),
    "with more requests it is overload": (
        lambda lab: (
            lab.replicas(2),
            [
                *everywhere(lab, "overload", 2, signs=("arrivals_up",)),
                lab.upstream(1, kind="service.upstream.down"),
                lab.upstream(2, kind="service.upstream.down"),
            ],
        ),
        ("overload", "all", ""),
    ),
    "what a partition hides has no say": (
        lambda lab: (
            lab.replicas(1, 1),
            [lab.verdict(1, "thermal", confidence=0.95), lab.silent(1)],
        ),
        ("undetermined", "none", ""),
    ),
    "blindness is not why users are hurt": (
        lambda lab: (lab.replicas(2), everywhere(lab, "telemetry_gap", 2, confidence=0.95)),
        ("undetermined", "none", ""),
    ),
    "who cannot see does not say why users are hurt": (
        lambda lab: (
            lab.replicas(4),
            [
                lab.verdict(1, "host_cpu", confidence=0.8),
                *(lab.verdict(n, "telemetry_gap", confidence=0.95) for n in (2, 3, 4)),
            ],
        ),
        ("undetermined", "none", ""),
    ),
    "a restart is never the sure cause": (
        lambda lab: (lab.replicas(1), [lab.verdict(1, "restart", confidence=0.5)]),
        ("undetermined", "none", ""),
    ),
    "a cause of a newer agent is its node's": (
        lambda lab: (lab.replicas(1, 1), [lab.verdict(1, "coolant_leak")]),
        ("coolant_leak", "one", "n1:8000"),
    ),
    "longer prompts fill the cache and make the queue": (
        lambda lab: (
            lab.replicas(4),
            [
                *(lab.verdict(n, "input_anomaly") for n in (1, 2)),
                lab.verdict(3, "kv_exhaustion"),
                lab.verdict(4, "overload"),
            ],
        ),
        ("input_anomaly", "several", ""),
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(lab, name):
    """Cause, how much of the service it is at, and what it is about."""
    make, expected = SCENARIOS[name]

    diagnosis = lab.said(*make(lab))

    assert expected == (diagnosis.cause, diagnosis.scope.value, diagnosis.about)


def rolled_out(lab, hurt, well, older_hurt=0, older_well=0, *, minutes=5.0):
    """Replicas that began anew, so many minutes before users were hurt, and older ones."""
    began_s = lab.onset_s - minutes * MINUTE_S
    states = [True] * hurt + [False] * well
    fresh = [lab.replica(n, hurt=state, began_s=began_s) for n, state in enumerate(states, 1)]
    states = [True] * older_hurt + [False] * older_well
    return fresh + [lab.replica(n, hurt=state) for n, state in enumerate(states, len(fresh) + 1)]


@pytest.mark.parametrize(
    ("sizes", "minutes", "cause"),
    [
        pytest.param((4, 0), 5, "change", id="all began anew just before"),
        pytest.param((4, 0), 30, "change", id="half an hour before"),
        pytest.param((4, 0), 30.1, "undetermined", id="longer before"),
        pytest.param((4, 0), -0.1, "undetermined", id="afterwards, as a remedy"),
        pytest.param((1, 0, 0, 7), 5, "change", id="one in eight began anew, and is alone"),
        pytest.param((1, 0), 5, "undetermined", id="the only one: a restart"),
        pytest.param((2, 0, 1, 0), 5, "undetermined", id="an older one is hurt as well"),
        pytest.param((0, 2, 2, 0), 5, "undetermined", id="the new ones are well"),
        pytest.param((2, 2, 0, 0), 30, "change", id="half of the new ones, long before"),
    ],
)
def test_roll_out(lab, sizes, minutes, cause):
    """What began anew is suspect where it matches whose users are hurt."""
    assert cause == lab.said(rolled_out(lab, *sizes, minutes=minutes)).cause


@pytest.mark.parametrize(
    ("told", "changes", "cause"),
    [
        pytest.param("kv_exhaustion", {}, "change", id="a new version that needs more memory"),
        pytest.param("overload", {}, "change", id="a new version that is slower"),
        pytest.param("overload", {"signs": ("arrivals_up",)}, "overload", id="more requests"),
        pytest.param("input_anomaly", {}, "input_anomaly", id="callers make prompts"),
        pytest.param("thermal", {}, "thermal", id="no version makes heat"),
    ],
)
def test_what_a_change_can_make(lab, told, changes, cause):
    """A cause that a new version can make is explained by the roll-out just before it."""
    diagnosis = lab.said(rolled_out(lab, 4, 0), everywhere(lab, told, 4, **changes))

    assert cause == diagnosis.cause


@pytest.mark.parametrize(("minutes", "sure"), [(10, 0.70), (10.1, 0.52)])
def test_a_change_is_less_certain_the_longer_ago_it_was(lab, minutes, sure):
    """What it may have made can have come by itself."""
    known = rolled_out(lab, 4, 0, minutes=minutes)

    diagnosis = lab.said(known, everywhere(lab, "kv_exhaustion", 4, confidence=0.95))

    assert ("change", sure) == (diagnosis.cause, pytest.approx(diagnosis.confidence, abs=0.01))


def test_starts_are_one_group(lab):
    """That it alone began anew, just before, and is alone in its harm, is not three times proof."""
    told = [lab.verdict(1, "kv_exhaustion", confidence=0.95)]

    diagnosis = lab.said(rolled_out(lab, 1, 0, 0, 7), told)

    assert ("change", pytest.approx(0.74, abs=0.01)) == (diagnosis.cause, diagnosis.confidence)


def test_nothing_known_says_nothing(lab):
    """One replica whose users are hurt, and not a word of why: there is nothing to tell apart."""
    assert lab.said(lab.replicas(1)) is None
    assert "undetermined" == lab.said(lab.replicas(2)).cause


def test_the_domain_is_the_causes(lab):
    gpu = lab.said(lab.replicas(1, 1), [lab.verdict(1, "thermal", domain=CauseDomain.GPU)])
    uneven = lab.said(lab.replicas(1, 3), [lab.verdict(1, "overload")])
    nobody = lab.said(lab.replicas(2), [lab.verdict(1, "overload", confidence=0.4)])

    assert (CauseDomain.GPU, CauseDomain.NETWORK, None) == (
        gpu.domain,
        uneven.domain,
        nobody.domain,
    )


def test_one_node_is_no_surer_for_being_asked(lab):
    alone = lab.said(lab.replicas(1), [lab.verdict(1, "thermal", confidence=0.81)])
    many = lab.said(lab.replicas(4), everywhere(lab, "thermal", 4, confidence=0.81))

    assert 0.81 == pytest.approx(alone.confidence)
    assert 0.81 < many.confidence <= 0.95


def test_proof_is_no_more_than_what_agents_are_sure_of_at_most(lab):
    """A certainty of 1 would outweigh everything, and may be a mistake all the same."""
    known = rolled_out(lab, 1, 0, 0, 7)

    told = lab.said(known, [lab.verdict(1, "kv_exhaustion", confidence=0.95)])
    proven = lab.said(known, [lab.verdict(1, "kv_exhaustion", confidence=1.0)])

    assert ("change", told.confidence) == (proven.cause, proven.confidence)


def test_many_nodes_are_one_group(lab):
    """Forty nodes that read the same thermometers weigh no more than four."""
    few = lab.said(lab.replicas(8), everywhere(lab, "thermal", 8, confidence=0.95))
    many = lab.said(lab.replicas(40), everywhere(lab, "thermal", 40, confidence=0.95))

    assert few.confidence == many.confidence


def sick(lab):
    return lab.said(lab.replicas(1, 3), [lab.verdict(1, "thermal", confidence=0.9)])


def test_a_verdict_grows_from_one_node_to_the_service(lab):
    """First one node speaks, then all: what was the node's becomes the service's."""
    first = lab.said(lab.replicas(1, 3), overload(lab, (1,)))

    then = lab.said(lab.replicas(4), everywhere(lab, "overload", 4), first)

    assert ("uneven_load", "overload") == (first.cause, then.cause)
    assert is_news(first, then)


def test_a_cause_stays_until_another_leads(lab):
    """Both sides of ten decibans: two other nodes lead by 9.8 of them, three by 12.8."""
    before = sick(lab)
    hot = lab.verdict(1, "thermal", confidence=0.8)

    def busy(*numbers):
        return [hot, *(lab.verdict(n, "host_cpu", confidence=0.95) for n in numbers)]

    asked_now = lab.said(lab.replicas(3), busy(2, 3))
    kept = lab.said(lab.replicas(3), busy(2, 3), before)
    left = lab.said(lab.replicas(4), busy(2, 3, 4), before)

    assert ("host_cpu", "thermal", "host_cpu") == (asked_now.cause, kept.cause, left.cause)
    assert (("host_cpu",), True) == (kept.besides, is_news(before, kept))


def test_a_parent_takes_over_from_what_follows_it_at_once(lab):
    """The sick node that is heard last is the cause all the same."""
    first = lab.said(lab.replicas(3), overload(lab, (1, 2, 3)))

    then = lab.said(
        lab.replicas(4),
        [*overload(lab, (1, 2, 3)), lab.verdict(4, "gpu_lost", confidence=0.95)],
        first,
    )

    assert ("overload", "gpu_lost") == (first.cause, then.cause)


def test_a_cause_that_hardly_anything_speaks_for_is_given_up(lab):
    """Users are hurt elsewhere by now, and nobody says why."""
    before = sick(lab)

    kept = lab.said(lab.replicas(2, 2), [lab.verdict(1, "thermal", confidence=0.8)], before)
    given_up = lab.said(lab.replicas(4), [lab.verdict(1, "thermal", confidence=0.8)], before)

    assert ("thermal", "undetermined") == (kept.cause, given_up.cause)


def test_what_is_over_keeps_its_cause(lab):
    """All verdicts have cleared: the incident ends with the cause that it had."""
    before = sick(lab)

    assert before == lab.said(lab.replicas(0, 4), (), before)
    assert before == lab.said(lab.replicas(2, 2), (), before)


def test_replicas_that_clear_one_after_the_other_are_no_news(lab):
    before = lab.said(lab.replicas(3, 1), everywhere(lab, "thermal", 3))

    after = lab.said(lab.replicas(1, 3), [lab.verdict(1, "thermal")], before)

    assert not is_news(before, after)
    assert is_news(before, lab.said(lab.replicas(4), everywhere(lab, "thermal", 4), before))


@pytest.mark.parametrize(
    ("after_s", "news"), [pytest.param(119, False, id="too soon"), pytest.param(120, True)]
)
def test_other_grounds_are_news_only_so_often(lab, after_s, news):
    """Others begin to be hurt: the cause stays, what speaks for it does not."""
    at_s = lab.onset_s + 60
    before = lab.said(lab.replicas(1, 7), [lab.verdict(1, "thermal", confidence=0.95)])

    after = lab.said(
        lab.replicas(2, 6),
        [lab.verdict(1, "thermal", confidence=0.95)],
        before,
        at_s=at_s + after_s,
    )

    assert ("thermal", "thermal") == (before.cause, after.cause)
    assert before.grounds != after.grounds
    assert news is is_news(before, after)


def test_other_figures_are_no_news(lab):
    """A node is a little surer, ten minutes later."""
    known = lab.replicas(1, 3)
    before = lab.said(known, [lab.verdict(1, "thermal", confidence=0.88)])

    after = lab.said(
        known, [lab.verdict(1, "thermal", confidence=0.93)], before, at_s=lab.onset_s + 660
    )

    assert before.supports != after.supports
    assert not is_news(before, after)


def test_the_rest_of_an_overload_is_not_unevenly_spread(lab):
    """Replicas recover one after the other; the last was not the cause when all had too much."""
    before = lab.said(lab.replicas(4), everywhere(lab, "overload", 4))

    rest = lab.said(lab.replicas(1, 3), overload(lab, (1,)), before, at_s=lab.onset_s + 600)
    over = lab.said(lab.replicas(0, 4), [lab.verdict(1, "thermal")], before)

    assert before == rest == over


@pytest.mark.parametrize(("age_s", "cause"), [(59, "overload"), (60, "uneven_load")])
def test_who_says_first_that_it_is_too_much_is_not_yet_alone(lab, age_s, cause):
    """Where all get too much, one says so before the others do."""
    told = overload(lab, (1,), since_s=lab.onset_s)

    assert cause == lab.said(lab.replicas(1, 3), told, at_s=lab.onset_s + age_s).cause


@given(st.lists(st.sampled_from((0.8, 0.82, 0.84, 0.9)), min_size=20, max_size=20))
def test_what_is_true_besides_does_not_come_and_go(lab, certainties):
    """A cause that weighs about seven decibans: users are hurt elsewhere, and nobody says why."""
    known, diagnosis, told = lab.replicas(8), None, 0
    for step, confidence in enumerate(certainties):
        findings = [
            *overload(lab, (1, 2), confidence=0.95),
            lab.verdict(3, "host_cpu", confidence=confidence),
        ]
        fresh = lab.said(known, findings, diagnosis, at_s=lab.onset_s + 60 + 5 * step)
        if is_news(diagnosis, fresh):
            diagnosis, told = fresh, told + 1

    assert told <= 2


@given(st.lists(st.sampled_from((0.8, 0.85, 0.9, 0.95)), min_size=40, max_size=40))
def test_causes_that_are_close_do_not_take_turns(lab, certainties):
    """Two nodes with a cause each, whose certainty moves with every judgement."""
    known, diagnosis, named = lab.replicas(2, 2), None, []
    for step in range(20):
        hot = lab.verdict(1, "thermal", confidence=certainties[2 * step])
        busy = lab.verdict(2, "host_cpu", confidence=certainties[2 * step + 1])
        at_s = lab.onset_s + 5 * step
        fresh = lab.said(known, [hot, busy], diagnosis, at_s=at_s)
        if is_news(diagnosis, fresh):
            diagnosis = fresh
            named.append(fresh.cause)

    assert 1 == len(named)


CAUSES = ("thermal", "overload", "upstream", "host_cpu", "kv_exhaustion")


@given(
    st.lists(
        st.tuples(st.sampled_from(CAUSES), st.sampled_from((0.5, 0.8, 0.95)), st.booleans()),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_order_does_not_matter_and_a_stored_case_gives_the_same_again(lab, told, random):
    """Whatever order reports come in; and the timeline's JSON is enough to judge it again."""
    known = [lab.replica(n, hurt=hurt) for n, (_, _, hurt) in enumerate(told)]
    findings = [
        lab.verdict(n, cause, confidence=confidence)
        for n, (cause, confidence, _) in enumerate(told)
    ]
    case = lab.case(known, findings)
    random.shuffle(known)
    random.shuffle(findings)

    stored = msgspec.json.decode(msgspec.json.encode(case), type=Case)

    assert case == lab.case(known, findings) == stored
    assert diagnose(case) == diagnose(stored)
