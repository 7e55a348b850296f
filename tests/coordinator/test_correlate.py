"""Which findings open, grow and clear which incidents."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.coordinator import events as e
from gpuward.coordinator.correlate import Open, Tell, clear, compare, group_key, place
from gpuward.coordinator.impact import Impact
from gpuward.coordinator.model import FindingClass, Severity, Subject
from gpuward.coordinator.report import Report
from gpuward.coordinator.service_incident import find_causes

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
