"""Which findings open, grow and clear which incidents."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.coordinator import events as e
from gpuward.coordinator.correlate import (
    Open,
    Tell,
    clear,
    compare,
    group_key,
    place,
)
from gpuward.coordinator.diagnosis.values import Case
from gpuward.coordinator.impact import Impact
from gpuward.coordinator.model import (
    CauseDomain,
    FindingClass,
    LinkedFinding,
    Relation,
    Rotation,
    Severity,
    Subject,
)
from gpuward.coordinator.report import Report
from gpuward.coordinator.service_incident import (
    find_causes,
    open_service,
    strongest_domain,
    update_causes,
)
from gpuward.coordinator.severity import Assessment

HALF_FAIL = Assessment(Severity.SEV2, ("50 % of 100 failed",), "requests fail")
CASE = Case("chat", 5.0, 9.0)
IMPACT = Impact("chat", 100, 50, 0, nodes=frozenset({"n1"}))


@pytest.mark.parametrize(
    ("cls", "severity"),
    [
        pytest.param(FindingClass.STORE, None, id="stored findings open nothing"),
        pytest.param(FindingClass.TICKET, Severity.SEV4, id="tickets wait"),
        pytest.param(FindingClass.PAGE, Severity.SEV2, id="hard faults page"),
    ],
)
def test_a_new_finding_opens(make, cls, severity):
    placed = place(make.finding(default_class=cls), ())

    assert severity == (placed.event.severity if isinstance(placed, Open) else None)


def test_same_node_gpu_and_kind_is_one_incident(make):
    first = make.finding("f1")
    known = replace(make.incident(Severity.SEV4), group_key=group_key(first), kind=first.kind)

    placed = place(make.finding("f2"), [known])

    assert isinstance(placed, Tell)
    assert ("f2",) == tuple(c.finding.finding_id for c in placed.commands)


def test_a_finding_that_gets_louder_raises_its_incident(make):
    first = make.finding("f1", kind="driver.unresponsive")
    known = replace(make.incident(Severity.SEV4), group_key=group_key(first), kind=first.kind)

    placed = place(replace(first, default_class=FindingClass.PAGE), [known])

    assert e.ChangeSeverity(Severity.SEV2, (first.summary,)) in placed.commands


def test_a_cause_of_a_service_incident_opens_none_of_its_own(make):
    """One trouble, one incident: also for the next raise of the same trouble."""
    cause = make.finding("f1", default_class=FindingClass.PAGE)
    hurt = replace(make.incident(), findings=(make.linked(cause),))

    assert place(replace(cause, finding_id="f2"), [hurt]) is None


def test_a_finding_that_names_a_hurt_service_joins_its_incident(make):
    """Also one that is over as it comes, such as an out-of-memory error."""
    oom = make.finding("oom", kind="process.memory.oom", cleared_at_s=make.now_s)
    hurt = make.incident()

    placed = place(oom, [hurt])

    assert Tell(hurt, (e.LinkFinding(make.linked(oom)),)) == placed
    elsewhere = make.finding("x", subject=Subject("n1", "GPU-2"))
    assert isinstance(place(elsewhere, [hurt]), Open)


def test_a_drill_is_heard_alone(make):
    """It joins no real incident, is the cause of none, and a real fault opens its own beside it."""
    real = make.finding("real", default_class=FindingClass.PAGE)
    drill = replace(real, finding_id="drill", dedup_key=f"{real.dedup_key}|drill")

    assert isinstance(place(drill, [make.incident()]), Open)
    assert group_key(drill) != group_key(real)
    assert () == find_causes(IMPACT, [drill])
    assert () != find_causes(IMPACT, [real])


def test_silent_nodes_are_one_group(make):
    a = make.finding("a", kind="node.overdue", subject=Subject("n1"))
    b = make.finding("b", kind="node.overdue", subject=Subject("n2"))

    assert group_key(a) == group_key(b)


def test_clear_tells_every_incident_that_knows_it(make):
    value = make.finding()
    knows = replace(make.incident(), findings=(make.linked(value),))
    cleared = replace(knows, findings=(replace(make.linked(value), is_open=False),))

    assert (Tell(knows, (e.ClearFinding("f1"),)),) == clear(value, [knows, cleared])


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


def test_compare(make):
    same, gone = make.finding("same"), make.finding("gone")
    known = [same, gone, make.finding("changed"), make.finding("louder")]
    now = [
        same,
        make.finding("changed", count=2),
        make.finding("louder", default_class=FindingClass.PAGE),
        make.finding("new"),
    ]

    delta = compare(known, make.report(findings=now, at_s=make.now_s + 9))

    assert ["new"] == [f.finding_id for f in delta.raised]
    assert ["changed", "louder"] == [f.finding_id for f in delta.updated]
    assert ["louder"] == [f.finding_id for f in delta.louder]
    assert [("gone", make.now_s + 9)] == [(f.finding_id, f.cleared_at_s) for f in delta.cleared]


ids = st.lists(st.sampled_from("abcdef"), unique=True)


@given(ids, ids)
def test_any_report_leaves_exactly_its_own_findings_open(before, after):
    """Level-triggered: whatever was lost in between, one report heals it."""
    known = [_plain(i) for i in before]

    delta = compare(known, Report("n1", "b", "a", 1, 9.0, tuple(_plain(i) for i in after)))

    open_ids = {f.finding_id for f in known} - {f.finding_id for f in delta.cleared}
    assert set(after) == open_ids | {f.finding_id for f in delta.raised}
    assert all(f.cleared_at_s == 9.0 for f in delta.cleared)


def _plain(finding_id):
    from gpuward.coordinator.model import Finding

    return Finding(
        finding_id, finding_id, "gpu.xid", Subject("n1"), "s", FindingClass.TICKET, 1.0, 2.0
    )


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
