"""How the incident of a hurt service opens, what its causes are, and whose it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.diagnosis.values import Case, Cohort, Starts
from gpuward.coordinator.impact import Impact
from gpuward.coordinator.model import (
    CauseDomain,
    LinkedFinding,
    Relation,
    Rotation,
    Severity,
    Subject,
)
from gpuward.coordinator.service_incident import (
    find_causes,
    open_service,
    strongest_domain,
    update_causes,
)
from gpuward.coordinator.severity import Assessment

HALF_FAIL = Assessment(Severity.SEV2, ("50 % of 100 failed",), "requests fail")
CASE = Case("chat", 5.0, 9.0)
WRONG_ANSWERS = Cohort("corrupt_results", 0.9, 1, 1, 5.0, CauseDomain.MODEL)
IMPACT = Impact("chat", 100, 50, 0, nodes=frozenset({"n1"}))


@pytest.mark.parametrize(
    ("subject", "relation"),
    [
        pytest.param(
            Subject("n1", "GPU-1", service="chat"), Relation.SERVICE, id="names the service"
        ),
        pytest.param(Subject("n9", service="chat"), Relation.SERVICE, id="names it from elsewhere"),
        pytest.param(Subject("n1", "GPU-1"), Relation.GPU, id="same GPU"),
        pytest.param(Subject("n1", "GPU-1", service="embed"), Relation.GPU, id="noisy neighbour"),
        pytest.param(Subject("n1", "GPU-2"), Relation.NODE, id="same node"),
        pytest.param(Subject("n1"), Relation.NODE, id="the node itself"),
        pytest.param(Subject("n1", "GPU-2", service="embed"), None, id="another service's GPU"),
        pytest.param(Subject("n2", "GPU-1"), None, id="another node"),
    ],
)
def test_relation(make, subject, relation):
    named = make.finding("named")
    other = make.finding("other", kind="gpu.xid", subject=subject)

    found = {f.finding_id: f.relation for f in find_causes(IMPACT, [named, other])}

    assert relation == found.get("other")


def test_a_cleared_finding_is_no_cause(make):
    assert () == find_causes(IMPACT, [make.finding(cleared_at_s=make.now_s)])


def test_the_closest_cause_picks_the_rotation(make):
    near = make.finding("near", domain=CauseDomain.DRIFT)
    far = make.finding("far", kind="gpu.xid", subject=Subject("n1"), domain=CauseDomain.GPU)

    opening = open_service(IMPACT, HALF_FAIL, [far, near], (), CASE)

    assert (CauseDomain.DRIFT, Rotation.ML) == (opening.event.domain, opening.event.rotation)
    assert "chat: requests fail" == opening.event.title
    assert ["near", "far"] == [c.finding.finding_id for c in opening.then]


def test_a_cause_with_an_incident_of_its_own_is_linked_to_it(make):
    cause = make.finding()
    ticket = replace(make.incident(), id="ticket", findings=(make.linked(cause, Relation.SUBJECT),))
    other = replace(make.incident(), id="other", findings=(make.linked(cause),))

    (link,) = open_service(IMPACT, HALF_FAIL, [cause], [ticket, other], CASE).then

    assert "ticket" == link.incident_id


def test_without_a_cause_capacity_answers():
    opening = open_service(IMPACT, HALF_FAIL, (), (), CASE)

    assert Rotation.INFRASTRUCTURE is opening.event.rotation
    assert 5.0 == opening.event.impact_since_s


def test_a_stray_finding_does_not_take_over_from_a_cause_that_cleared(make):
    cause = LinkedFinding("c", "k", "x", Relation.SERVICE, CauseDomain.DRIFT, "s", is_open=False)
    stray = make.finding("stray", subject=Subject("n1"), domain=CauseDomain.GPU)
    hurt = replace(make.incident(domain=CauseDomain.DRIFT), findings=(cause,))

    *_, hand_over = update_causes(hurt, IMPACT, [stray], (), CASE)

    assert CauseDomain.DRIFT is hand_over.domain
    assert CauseDomain.CAPACITY is strongest_domain(())


def test_a_verdict_picks_the_rotation_and_slow_tokens_do_not(make):
    chat = Subject("n1", service="chat")
    slow = make.finding("slow", kind="service.latency.inter_token", subject=chat, confidence=1.0)
    xid = make.finding("xid", kind="gpu.xid", subject=Subject("n1"), domain=CauseDomain.DRIVER)
    verdict = make.finding(
        "why", kind="service.latency.cause", subject=chat, domain=CauseDomain.NETWORK
    )
    sure, unsure = replace(verdict, confidence=0.9), replace(verdict, confidence=0.4)

    opening = open_service(IMPACT, HALF_FAIL, [slow, xid, sure], (), CASE)
    doubtful = open_service(IMPACT, HALF_FAIL, [slow, xid, unsure], (), CASE)

    assert CauseDomain.NETWORK is opening.event.domain
    assert CauseDomain.DRIVER is doubtful.event.domain


def test_what_follows_from_another_comes_after_it(make):
    """A slow clock and the power brake that slows it: the brake is the cause to act upon."""
    on_gpu = Subject("n1", "GPU-1", service="chat")
    brake = make.finding("brake", kind="gpu.power.brake", subject=on_gpu)
    slow = make.finding(
        "slow",
        kind="gpu.clock.slow_under_load",
        subject=on_gpu,
        cause_dedup_keys=(brake.dedup_key,),
    )

    assert ["brake", "slow"] == [f.finding_id for f in find_causes(IMPACT, [slow, brake])]
    assert ["slow"] == [f.finding_id for f in find_causes(IMPACT, [slow])]


def diagnosed(commands):
    return [c.diagnosis.cause for c in commands if isinstance(c, e.Diagnose)]


def test_a_diagnosis_picks_the_rotation_before_any_finding(make):
    """It has heard all nodes; while it is undetermined, the strongest finding does."""
    xid = make.finding("xid", kind="gpu.xid", subject=Subject("n1"), domain=CauseDomain.GPU)
    sure = replace(CASE, replicas=1, heard=1, cohorts=(WRONG_ANSWERS,))
    unsure = replace(sure, cohorts=(replace(WRONG_ANSWERS, cause="undetermined"),))

    opening = open_service(IMPACT, HALF_FAIL, [xid], (), sure)
    doubtful = open_service(IMPACT, HALF_FAIL, [xid], (), unsure)

    assert (CauseDomain.MODEL, Rotation.ML) == (opening.event.domain, opening.event.rotation)
    assert CauseDomain.GPU is doubtful.event.domain
    assert (["corrupt_results"], ["undetermined"]) == (
        diagnosed(opening.then),
        diagnosed(doubtful.then),
    )


def test_a_diagnosis_hands_over_without_any_finding(make):
    """A roll-out leaves none; where nothing is known, nothing changes hands."""
    anew = replace(
        CASE, replicas=2, heard=2, hurt=2, dated=2, starts=Starts(2, 2, 0, 1.0, 2.0), began_anew=2
    )
    hurt = make.incident(domain=CauseDomain.DRIFT, rotation=Rotation.ML)

    diagnose, hand_over = update_causes(hurt, IMPACT, (), (), anew)

    assert "change" == diagnose.diagnosis.cause
    assert e.HandOver(
        CauseDomain.CAPACITY, Rotation.INFRASTRUCTURE, "a change at all 2 replicas"
    ) == (hand_over)
    assert () == update_causes(hurt, IMPACT, (), (), CASE)


def test_an_undetermined_diagnosis_moves_nobody(make):
    """Not away from whom it was given to by the diagnosis before."""
    unsure = replace(CASE, cohorts=(replace(WRONG_ANSWERS, cause="undetermined"),))
    hurt = make.incident(domain=CauseDomain.MODEL, rotation=Rotation.ML)

    commands = update_causes(hurt, IMPACT, (), (), unsure)

    assert ["undetermined"] == diagnosed(commands)
    assert not any(isinstance(command, e.HandOver) for command in commands)
