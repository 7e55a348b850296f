"""Messages from agents are untrusted: mended or refused, never believed, never fatal."""

from __future__ import annotations

import copy
import math

import msgspec
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from gpuward.coordinator import wire
from gpuward.coordinator.model import (
    Action,
    CauseDomain,
    FindingClass,
    Result,
    ServiceTotals,
)
from gpuward.coordinator.reader import Reader
from gpuward.coordinator.report import Report
from gpuward.coordinator.wire_finding import Known
from gpuward.v1 import coordinator_pb2, finding_pb2, report_pb2

NOW_S = 1_800_000_000.0


def at(seconds):
    return Timestamp(seconds=int(seconds))


def read(message, node="n1"):
    reader = Reader(NOW_S)
    return wire.report_from(message, node, reader, Known()), reader.notes


def report(**changes):
    values = {"node": "n1", "boot_id": "b", "seq": 1, "agent_instance": "a", "at": at(NOW_S)}
    return report_pb2.Report(**{**values, **changes})


def finding(**changes):
    values = {
        "finding_id": "f1",
        "dedup_key": "k",
        "kind": "gpu.xid",
        "code": 79,
        "subject": finding_pb2.Subject(node="n1", gpu_uuid="GPU-1"),
        "state": finding_pb2.FINDING_STATE_RAISED,
        "default_class": finding_pb2.FINDING_CLASS_PAGE,
        "cause_domain": finding_pb2.CAUSE_DOMAIN_GPU,
        "result": finding_pb2.CHECK_RESULT_FAIL,
        "since": at(NOW_S - 9),
        "last_seen": at(NOW_S),
        "count": 3,
        "confidence": 0.5,
        "summary": "XID 79",
        "suggested_action": finding_pb2.SUGGESTED_ACTION_DRAIN_NODE,
    }
    return finding_pb2.Finding(**{**values, **changes})


def one(**changes):
    value, notes = read(report(findings=[finding(**changes)]))
    (found,) = value.findings
    return found, notes


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "finding_id": st.sampled_from(["f1", "f2", "f/2", "f-2", ""]),
        "last_seen": st.integers(0, 20).map(lambda s: at(NOW_S - s)),
        "since": st.integers(0, 20).map(lambda s: at(NOW_S - s)),
        "count": st.integers(0, 5),
        "summary": st.sampled_from(["XID 79", "XID 79 again"]),
        "state": st.sampled_from([1, 2, 3]),
        "confidence": st.sampled_from([0.5, 0.7, math.inf]),
        "evidence": st.floats(0, 2).map(lambda v: [finding_pb2.Evidence(name="x", value=v)]),
    },
)


@given(st.lists(st.lists(CHANGES, max_size=3), min_size=1, max_size=5))
def test_what_is_known_of_the_report_before_changes_nothing_of_what_is_read(reports):
    known = Known()
    for listed in reports:
        message = report(findings=[finding(**changes) for changes in listed])
        (alone, _) = read(copy.deepcopy(message))

        after_others = wire.report_from(message, "n1", Reader(NOW_S), known)

        assert alone.as_seen() == after_others.as_seen()


def test_a_good_finding_comes_through_whole():
    fact = finding_pb2.Evidence(
        name="xid", value=79, unit="1", threshold=1, text="fell off the bus", source="kmsg"
    )

    found, notes = one(evidence=[fact], cause_dedup_keys=["c"])

    assert [] == notes
    assert ("n1/f1", "k", "gpu.xid", 79) == (
        found.finding_id,
        found.dedup_key,
        found.kind,
        found.code,
    )
    assert (FindingClass.PAGE, CauseDomain.GPU, Result.FAIL, Action.DRAIN_NODE) == (
        found.default_class,
        found.domain,
        found.result,
        found.action,
    )
    assert (NOW_S - 9, NOW_S, None, 3, 0.5) == (
        found.since_s,
        found.last_seen_s,
        found.cleared_at_s,
        found.count,
        found.confidence,
    )
    assert ("xid", 79.0, "1", 1.0, "fell off the bus", None, "kmsg") == (
        found.evidence[0].name,
        found.evidence[0].value,
        found.evidence[0].unit,
        found.evidence[0].threshold,
        found.evidence[0].text,
        found.evidence[0].observed_at_s,
        found.evidence[0].source,
    )
    assert ("c",) == found.cause_dedup_keys


@pytest.mark.parametrize(
    ("changes", "name", "value", "note"),
    [
        pytest.param({"default_class": 77}, "default_class", "ticket", "77 is unknown", id="class"),
        pytest.param({"cause_domain": 77}, "domain", "capacity", "77 is unknown", id="domain"),
        pytest.param({"result": 0}, "result", "unknown", "0 is unknown", id="result"),
        pytest.param({"suggested_action": 77}, "action", "none", "77 is unknown", id="action"),
        pytest.param({"confidence": math.nan}, "confidence", 0.0, "not within", id="no number"),
        pytest.param({"confidence": 7.0}, "confidence", 1.0, "not within", id="too sure"),
        pytest.param({"since": at(9e9)}, "since_s", NOW_S, "time of arrival", id="from the future"),
        pytest.param({"since": at(0)}, "since_s", NOW_S, "time of arrival", id="from 1970"),
        pytest.param({"last_seen": at(NOW_S + 299)}, "last_seen_s", NOW_S, None, id="clock ahead"),
        pytest.param({"count": 0}, "count", 1, None, id="never seen"),
        pytest.param({"kind": ""}, "kind", "unknown", None, id="no kind"),
        pytest.param({"summary": "a\nb\0c"}, "summary", "a b c", None, id="control characters"),
        pytest.param({"summary": "x" * 9999}, "summary", "x" * 2000, "cut to 2000", id="long"),
        pytest.param({"dedup_key": ""}, "dedup_key", "n1|gpu.xid|GPU-1|", None, id="no key"),
    ],
)
def test_odd_fields_are_mended_and_noted(changes, name, value, note):
    found, notes = one(**changes)

    assert value == getattr(found, name)
    assert (note is None) == (not notes)
    assert note is None or note in notes[0]


def test_a_finding_is_of_the_node_that_reports_it():
    found, _ = one(subject=finding_pb2.Subject(node="another"))

    assert "n1" == found.subject.node


@pytest.mark.parametrize("finding_id", ["", "x" * 129, "a\nb"])
def test_a_finding_without_an_identity_is_dropped_alone(finding_id):
    value, notes = read(report(findings=[finding(finding_id=finding_id), finding()]))

    assert ["n1/f1"] == [f.finding_id for f in value.findings]
    assert 1 == len(notes)


@pytest.mark.parametrize(
    ("mine", "yours"),
    [
        pytest.param(("n1", "f1"), ("n2", "f1"), id="the same id"),
        pytest.param(("a/b", "c"), ("a", "b/c"), id="an id that looks like a node"),
    ],
)
def test_ids_of_two_nodes_never_meet(mine, yours):
    """One node cannot clear, nor overwrite, what another has found."""

    def id_of(node, finding_id):
        value, _ = read(report(node=node, findings=[finding(finding_id=finding_id)]), node)
        return value.findings[0].finding_id

    assert id_of(*mine) != id_of(*yours)


def test_of_a_doubled_id_the_last_word_stands():
    value, _ = read(report(findings=[finding(count=1), finding(count=2)]))

    assert [2] == [f.count for f in value.findings]


def test_lists_are_bounded():
    value, notes = read(report(findings=[finding(finding_id=f"f{n}") for n in range(1001)]))

    assert 1000 == len(value.findings)
    assert ["findings: 1001 given, the first 1000 kept"] == notes


def test_a_cleared_finding_says_when():
    found, _ = one(state=finding_pb2.FINDING_STATE_CLEARED, cleared_at=at(NOW_S - 1))

    assert NOW_S - 1 == found.cleared_at_s


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"node": "n2"}, "session of node 'n1' sent a report of 'n2'", id="other node"),
        pytest.param({"seq": 0}, "report.seq: 0", id="no seq"),
        pytest.param(
            {"seq": 2**63}, "report.seq: 9223372036854775808", id="seq beyond the database"
        ),
        pytest.param({"agent_instance": ""}, "report.agent_instance", id="no instance"),
    ],
)
def test_what_cannot_be_used_is_refused(changes, reason):
    with pytest.raises(wire.BadMessage, match=reason):
        read(report(**changes))


def test_what_a_replica_runs():
    """Agents that are older, and engines that do not say, tell nothing of it."""
    told = {"model": "m", "version": "2", "previous_model": "m", "previous_version": "1"}
    known = report_pb2.ServiceTotals(service="chat", changed_at=at(NOW_S - 60), **told)
    value, _ = read(report(service_totals=[known, report_pb2.ServiceTotals(service="chat")]))

    found, unknown = value.service_totals
    assert told == {name: getattr(found, name) for name in told}
    assert NOW_S - 60 == found.changed_at_s
    assert ("", "", 0.0) == (unknown.model, unknown.version, unknown.changed_at_s)


def test_an_absurd_start_time_does_not_move_with_the_clock():
    """A start that is new in every report would count all requests anew in every report."""
    totals = report_pb2.ServiceTotals(
        service="chat", instance="i", started_at=at(9e9), observed_at=at(NOW_S), requests=5
    )

    value, notes = read(report(service_totals=[totals]))

    assert 0.0 == value.service_totals[0].started_at_s
    assert "chat.started_at: 9000000000 is absurd, taken as unknown" in notes


def hello(**changes):
    values = {"protocol_revision": 1, "node": "n1", "boot_id": "b", "agent_version": "0.1"}
    return coordinator_pb2.Hello(**{**values, **changes})


def test_hello():
    found = wire.hello_from(hello(query_address="n1:9478"), Reader(NOW_S))

    assert wire.Hello("n1", "b", "0.1", "n1:9478") == found


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param(
            {"protocol_revision": 2},
            "speaks protocol revision 2, this coordinator 1: install the same version",
            id="another protocol",
        ),
        pytest.param({"node": ""}, "node: not a name", id="nameless"),
        pytest.param({"node": "a\nb"}, "node: not a name", id="line break"),
        pytest.param({"node": "n" * 257}, "node: not a name", id="too long"),
    ],
)
def test_a_hello_that_cannot_be_used(changes, reason):
    with pytest.raises(wire.BadMessage, match=reason):
        wire.hello_from(hello(**changes), Reader(NOW_S))


@pytest.mark.parametrize(
    ("until_s", "expected"),
    [
        pytest.param(None, None, id="does not say"),
        pytest.param(NOW_S + 600, NOW_S + 600, id="ten minutes"),
        pytest.param(NOW_S - 600, NOW_S, id="in the past"),
        pytest.param(NOW_S + 1e6, NOW_S + 86_400, id="for ever is a day"),
    ],
)
def test_drain(until_s, expected):
    message = coordinator_pb2.Drain(until=None if until_s is None else at(until_s))

    assert expected == wire.drain_until(message, Reader(NOW_S))


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(data):
    """Anything that parses becomes a report that the store can keep, or is refused."""
    message = report_pb2.Report()
    try:
        message.MergeFromString(data)
        value, _ = read(message, node=message.node or "n1")
    except (wire.BadMessage, DecodeError):
        return
    assert value == msgspec.json.decode(msgspec.json.encode(value), type=Report)


texts = st.text(max_size=40)
numbers = st.floats()
times = st.builds(
    lambda s, n: {"seconds": s, "nanos": n},
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**31), 2**31 - 1),
)
counts = st.integers(0, 2**64 - 1)
findings = st.builds(
    finding_pb2.Finding,
    finding_id=texts,
    dedup_key=texts,
    kind=texts,
    code=st.integers(0, 2**32 - 1),
    state=st.integers(-5, 9),
    default_class=st.integers(-5, 9),
    cause_domain=st.integers(-5, 19),
    since=times,
    last_seen=times,
    cleared_at=times,
    count=counts,
    confidence=numbers,
    summary=texts,
    evidence=st.lists(
        st.builds(finding_pb2.Evidence, name=texts, value=numbers, threshold=numbers, text=texts),
        max_size=3,
    ),
)
totals = st.builds(
    report_pb2.ServiceTotals,
    service=texts,
    instance=texts,
    started_at=times,
    observed_at=times,
    requests=counts,
    failed=counts,
)


@given(st.lists(findings, max_size=4), st.lists(totals, max_size=3), times)
def test_any_values_become_a_report_that_can_be_kept(some, counters, when):
    value, _ = read(report(findings=some, service_totals=counters, at=when))

    assert value == msgspec.json.decode(msgspec.json.encode(value), type=Report)
    for found in value.findings:
        assert NOW_S - 366 * 86_400 <= found.since_s <= found.last_seen_s <= NOW_S
        assert found.summary.isprintable()
        assert 0 <= found.confidence <= 1
    for counter in value.service_totals:
        assert isinstance(counter, ServiceTotals)
        assert counter.requests < 2**63
