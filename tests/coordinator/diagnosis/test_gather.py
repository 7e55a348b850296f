"""What of all that is stored belongs to a service's case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.agent.diagnosis.hypotheses import BY_NAME
from gpuward.coordinator.diagnosis.causes import CAUSES
from gpuward.coordinator.diagnosis.gather import is_hurt
from gpuward.coordinator.diagnosis.values import Answer, Upstream


def test_every_cause_that_agents_tell_is_known():
    """Agent and centre share no code: a new hypothesis there wants a row here."""
    assert set(BY_NAME) <= set(CAUSES)


@pytest.mark.parametrize(
    ("requests", "slow", "hurt"),
    [
        pytest.param(0, 0, None, id="no requests"),
        pytest.param(29, 0, None, id="too few to be well"),
        pytest.param(30, 0, False, id="well"),
        # Wilson's lower bound of 16 in 300 is 3.3 %, of 40 in 300 10.0 %, of 36 in 300 8.8 %.
        pytest.param(300, 16, None, id="a few are slow"),
        pytest.param(300, 36, None, id="just less than SEV3"),
        pytest.param(300, 40, True, id="SEV3"),
        pytest.param(20, 20, None, id="all of twenty prove nothing"),
    ],
)
def test_is_hurt(lab, requests, slow, hurt):
    """By the table of severities; too few requests are neither."""
    known = lab.replica(1, requests=requests)

    assert hurt is is_hurt(replace(known, impact=replace(known.impact, slow=slow)), 1.0)


def test_replicas_are_counted_by_how_their_users_fare(lab):
    known = [*lab.replicas(2, 3), lab.replica(6, hurt=None), lab.replica(7, is_heard=False)]

    case = lab.case(known)

    assert (7, 6, 2, 3) == (case.replicas, case.heard, case.hurt, case.well)
    assert ("n1:8000", "n2:8000") == case.hurt_places


def test_who_tells_the_same_is_one_cohort(lab):
    """The surest speaks for it; what is blamed comes before who blames it."""
    told = [
        lab.verdict(1, "thermal", confidence=0.8, blames=("heat-1",), since_s=lab.onset_s - 9),
        lab.verdict(2, "thermal", confidence=0.9, blames=("heat-2",), signs=("clock_low",)),
        lab.verdict(3, "thermal", confidence=0.5),
        lab.verdict(4, "thermal", service="embed"),
    ]

    sure, unsure = lab.case(lab.replicas(2, 1), told).cohorts

    assert ("thermal", 0.9, 2, 2, 2, 0) == (
        sure.cause,
        sure.confidence,
        sure.replicas,
        sure.nodes,
        sure.hurt,
        sure.well,
    )
    assert ("heat-2", "heat-1", "n2|chat|why", "n1|chat|why") == sure.keys
    assert (("clock_low",), ("clock_low is seen",)) == (sure.signs, sure.supports)
    assert lab.onset_s - 9 == sure.since_s
    assert ("undetermined", ("thermal",), 1) == (unsure.cause, unsure.rivals, unsure.well)


def test_a_verdict_without_a_replica_is_about_all_on_its_node(lab):
    told = lab.verdict(1, "thermal")
    nameless = replace(told, subject=replace(told.subject, endpoint=""))
    known = [lab.replica(1), replace(lab.replica(1, hurt=True), instance="n1:8001")]

    (cohort,) = lab.case(known, [nameless]).cohorts

    assert (2, 1, 1, 1) == (cohort.replicas, cohort.nodes, cohort.hurt, cohort.well)


def test_upstreams_of_serving_nodes_with_who_else_blames_them(lab):
    blames = {"upstream": "vectors"}
    found = [
        lab.upstream(1),
        lab.upstream(2, kind="service.upstream.down"),
        lab.upstream(3),
        lab.upstream(1, "features"),
        lab.verdict(8, "upstream", service="embed", facts=blames),
        lab.verdict(9, "upstream", service="chat", facts=blames),
    ]

    case = lab.case(lab.replicas(2), found)

    assert ["vectors", "features"] == [each.name for each in case.upstreams]
    keys = ("n1|service.upstream.slow|vectors", "n2|service.upstream.down|vectors")
    assert Upstream("vectors", True, 2, lab.onset_s, ("embed",), keys) == case.upstreams[0]


@pytest.mark.parametrize(
    ("before_s", "count"),
    [
        pytest.param(0, 1, id="in the same moment"),
        pytest.param(-1, 0, id="afterwards"),
        pytest.param(1800, 1, id="half an hour before"),
        pytest.param(1801, 0, id="longer before"),
    ],
)
def test_what_began_anew_before_users_were_hurt(lab, before_s, count):
    known = [*lab.replicas(1), lab.replica(2, hurt=True, began_s=lab.onset_s - before_s)]

    starts = lab.case(known).starts

    assert count == (0 if starts is None else starts.replicas)


def test_a_start_that_nobody_knows_is_none(lab):
    case = lab.case([lab.replica(1, began_s=0.0), lab.replica(2)])

    assert (1, None) == (case.dated, case.starts)


def test_answers_of_the_runbook_are_counted(lab):
    told = [
        lab.verdict(1, "thermal", facts={"question_1": "yes: heat", "question_4": "no"}),
        lab.verdict(2, "thermal", facts={"question_1": "no", "question_4": "no"}),
    ]

    answers = lab.case(lab.replicas(2), told).answers

    assert (Answer(1, 1, 1, 0), Answer(2, 0, 0, 2), Answer(3, 0, 0, 2), Answer(4, 0, 2, 0)) == (
        answers
    )


@pytest.mark.parametrize("what", ["cleared", "drill", "silent node"])
def test_what_has_no_say(lab, what):
    told = lab.verdict(1, "thermal")
    left_out = {
        "cleared": [replace(told, cleared_at_s=lab.onset_s)],
        "drill": [replace(told, dedup_key=f"{told.dedup_key}|drill")],
        "silent node": [told, lab.silent(1)],
    }[what]

    assert () == lab.case(lab.replicas(1), left_out).cohorts
    assert 1 == len(lab.case(lab.replicas(1), [told]).cohorts)


def test_a_case_of_a_thousand_replicas_is_small(lab):
    """It is written to the timeline."""
    told = [
        lab.verdict(n, ("thermal", "overload")[n % 2], blames=(f"b{n}",)) for n in range(1, 1001)
    ]

    case = lab.case(lab.replicas(1000), told)

    assert [500, 500] == [cohort.replicas for cohort in case.cohorts]
    assert all(len(cohort.keys) <= 50 for cohort in case.cohorts)
    assert all(len(cohort.places) <= 5 for cohort in case.cohorts)
