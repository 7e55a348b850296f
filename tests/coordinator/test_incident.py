"""An incident is what its events add up to; commands that make no sense change nothing."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.coordinator import events as e
from gpuward.coordinator.incident import Refused, apply, decide, fold
from gpuward.coordinator.model import (
    CauseDomain,
    Incident,
    LinkedFinding,
    Relation,
    Rotation,
    Severity,
    State,
)

F1 = LinkedFinding("f1", "k1", "gpu.xid", Relation.NODE, CauseDomain.GPU, "XID 79")
CLOSER = LinkedFinding("f1", "k1", "gpu.xid", Relation.GPU, CauseDomain.GPU, "XID 79")


def run(incident, *commands):
    for at_s, command in enumerate(commands, start=1):
        decided = decide(incident, command)
        for event in decided if isinstance(decided, tuple) else ():
            incident = apply(incident, event, incident.opened_at_s + at_s)
    return incident


@pytest.mark.parametrize(
    ("commands", "state"),
    [
        pytest.param([], State.OPEN, id="new"),
        pytest.param([e.Acknowledge("ann")], State.ACKNOWLEDGED, id="acknowledged"),
        pytest.param(
            [e.Acknowledge("ann"), e.Unacknowledge("ann", "asleep")], State.OPEN, id="taken back"
        ),
        pytest.param([e.Mitigate("m", "gone")], State.MITIGATED, id="mitigated"),
        pytest.param(
            [e.Mitigate("m", "gone"), e.Acknowledge("ann")],
            State.MITIGATED,
            id="ack when mitigated",
        ),
        pytest.param(
            [e.Mitigate("m", "gone"), e.BeginImpact(1.0, ("back",))], State.OPEN, id="relapse"
        ),
        pytest.param(
            [e.Acknowledge("ann"), e.Mitigate("m", "gone"), e.BeginImpact(1.0, ("back",))],
            State.ACKNOWLEDGED,
            id="relapse of an acknowledged one",
        ),
        pytest.param([e.Resolve("ann")], State.RESOLVED, id="resolved"),
        pytest.param([e.Resolve("ann"), e.Acknowledge("bob")], State.RESOLVED, id="too late"),
    ],
)
def test_state(make, commands, state):
    assert state == run(make.incident(), *commands).state


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(e.Acknowledge("bob"), id="ack"),
        pytest.param(e.LinkFinding(F1), id="link"),
        pytest.param(e.ClearFinding("f1"), id="clear"),
        pytest.param(e.Mitigate("m", "gone"), id="mitigate"),
    ],
)
def test_the_same_twice_changes_nothing(make, command):
    once = run(make.incident(), e.LinkFinding(F1), command)

    assert () == decide(once, command)


def test_resolving_twice_changes_nothing(make):
    assert () == decide(run(make.incident(), e.Resolve("ann")), e.Resolve("bob"))


def test_a_resolved_incident_still_takes_notes(make):
    resolved = run(make.incident(), e.Resolve("ann"))

    assert Refused("it is resolved") == decide(resolved, e.Acknowledge("bob"))
    assert (e.Noted("bob", "it was the fan"),) == decide(resolved, e.Note("bob", "it was the fan"))


def test_the_peak_stays(make):
    """A review asks for the worst that it was, a timer for what it is."""
    down = run(
        make.incident(),
        e.ChangeSeverity(Severity.SEV1, ("all fail",)),
        e.ChangeSeverity(Severity.SEV3, ("few fail",)),
    )

    assert (Severity.SEV3, Severity.SEV1) == (down.severity, down.peak_severity)
    assert ("few fail",) == down.reasons


def test_escalation_counts_from_the_first_severity_that_pages(make):
    ticket = make.incident(Severity.SEV4)
    assert ticket.escalates_from_s is None

    loud = run(ticket, e.Note("ann", "hm"), e.ChangeSeverity(Severity.SEV3, ("x",)))
    louder = run(loud, e.Note("ann", "hm"), e.ChangeSeverity(Severity.SEV1, ("y",)))

    assert ticket.opened_at_s + 2 == loud.escalates_from_s == louder.escalates_from_s


@pytest.mark.parametrize(
    ("changes", "is_news"),
    [
        pytest.param({"confidence": 0.9, "domain": CauseDomain.GPU}, True, id="now it is sure"),
        pytest.param({"confidence": 0.7, "domain": CauseDomain.GPU}, False, id="not sure yet"),
        pytest.param({"summary": "others words"}, False, id="other words"),
    ],
)
def test_a_verdict_that_has_become_sure_is_told_anew(make, changes, is_news):
    """Slow at first, for nobody knows why; the incident shall learn it when somebody does."""
    unsure = LinkedFinding(
        "v", "v", "service.latency.cause", Relation.SERVICE, CauseDomain.CAPACITY, "why?", 0.3
    )
    known = run(make.incident(), e.LinkFinding(unsure))
    now = replace(unsure, **changes)

    assert bool(decide(known, e.LinkFinding(now))) == is_news
    after = run(known, e.LinkFinding(now))
    assert decide(after, e.LinkFinding(now)) == ()


def test_a_closer_relation_replaces_a_farther_one(make):
    near = run(make.incident(), e.LinkFinding(F1), e.LinkFinding(CLOSER))

    assert (CLOSER,) == near.findings
    assert () == decide(near, e.LinkFinding(F1))


def test_quiet_is_when_every_finding_has_cleared(make):
    other = LinkedFinding("f2", "k2", "gpu.xid", Relation.NODE, CauseDomain.GPU, "XID 31")
    both = run(make.incident(), e.LinkFinding(F1), e.LinkFinding(other))
    one = run(both, e.ClearFinding("f1"))
    none = run(one, e.ClearFinding("f2"))

    assert (None, None) == (both.quiet_since_s, one.quiet_since_s)
    assert none.opened_at_s + 1 == none.quiet_since_s


def test_a_new_domain_hands_over(make):
    moved = run(make.incident(), e.HandOver(CauseDomain.DRIFT, Rotation.ML, "drift is the cause"))

    assert (CauseDomain.DRIFT, Rotation.ML) == (moved.domain, moved.rotation)


def test_fold_needs_an_opening():
    with pytest.raises(TypeError, match="begins with Noted"):
        fold("x", [e.TimelineEntry(1, 0.0, e.Noted("a", "b"))])


commands = st.sampled_from(
    [
        e.Acknowledge("ann"),
        e.Unacknowledge("ann", "away"),
        e.Mitigate("gpuward", "gone"),
        e.BeginImpact(5.0, ("again",)),
        e.Resolve("ann", "done"),
        e.Note("bob", "hm"),
        e.LinkFinding(F1),
        e.LinkFinding(CLOSER),
        e.ClearFinding("f1"),
        e.ChangeSeverity(Severity.SEV1, ("a",)),
        e.ChangeSeverity(Severity.SEV4, ("b",)),
        e.HandOver(CauseDomain.DRIFT, Rotation.ML, "x"),
    ]
)


@given(st.lists(commands, max_size=12))
def test_folding_what_was_written_gives_what_was_decided(wishes):
    """Events survive JSON, versions count them, and resolved is the end."""
    start = e.Opened(
        "g", "k", "t", Severity.SEV3, CauseDomain.GPU, Rotation.INFRASTRUCTURE, service="chat"
    )
    entries = [e.TimelineEntry(1, 10.0, start)]
    now = fold("id", entries)
    for wish in wishes:
        was_open = now.is_open
        decided = decide(now, wish)
        for event in decided if isinstance(decided, tuple) else ():
            entries.append(e.TimelineEntry(len(entries) + 1, 10.0 + len(entries), event))
            now = apply(now, event, entries[-1].at_s)
        assert was_open or not now.is_open

    raw = [msgspec.json.encode(entry) for entry in entries]
    again = fold("id", [msgspec.json.decode(line, type=e.TimelineEntry) for line in raw])
    assert now == again
    assert len(entries) == now.version
    assert now == msgspec.json.decode(msgspec.json.encode(now), type=Incident)
    assert now.peak_severity <= now.severity
