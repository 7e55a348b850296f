"""Model to contract: same words, wall time, valid strings, the right class."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent import wire
from gpuward.agent.model import (
    Action,
    CauseDomain,
    ComponentHealth,
    Driver,
    Evidence,
    Finding,
    FindingClass,
    Gpu,
    OpenFinding,
    Process,
    Result,
    Sample,
    SeriesKey,
    Snapshot,
    Subject,
)
from gpuward.agent.service_totals import ServiceTotals
from gpuward.v1 import agent_pb2, finding_pb2, report_pb2

OFFSET_S = 1_799_999_000.0


def opened(kind="gpu.xid", *, result=Result.FAIL, **fields):
    finding = Finding(kind, Subject(gpu="GPU-1", pid=7), "XID 79: gone.", result=result, **fields)
    return OpenFinding("i-1", finding, since_s=990.0, raised_s=995.0, last_seen_s=1_000.5, count=6)


def message(finding):
    return wire.finding_message(finding, node="n1", wall_offset_s=OFFSET_S, state=wire.RAISED)


@pytest.mark.parametrize(
    ("words", "enum", "prefix"),
    [
        (Result, finding_pb2.CheckResult, "CHECK_RESULT_"),
        (FindingClass, finding_pb2.FindingClass, "FINDING_CLASS_"),
        (CauseDomain, finding_pb2.CauseDomain, "CAUSE_DOMAIN_"),
        (Action, finding_pb2.SuggestedAction, "SUGGESTED_ACTION_"),
    ],
)
def test_model_and_contract_use_the_same_words(words, enum, prefix):
    known = {name.removeprefix(prefix) for name in enum.keys()} - {"UNSPECIFIED"}  # noqa: SIM118

    assert {word.name for word in words} == known


@pytest.mark.parametrize(
    ("kind", "result", "expected"),
    [
        pytest.param("gpu.xid", Result.OK, "STORE", id="a program's own error is evidence"),
        pytest.param("gpu.xid", Result.WARN, "TICKET", id="a worrying XID is a ticket"),
        pytest.param("gpu.xid", Result.FAIL, "PAGE", id="a lost GPU is a page"),
        pytest.param("driver.unresponsive", Result.WARN, "TICKET", id="a stalled driver: a ticket"),
        pytest.param("driver.unresponsive", Result.FAIL, "PAGE", id="a hung driver: a page"),
        pytest.param("gpu.memory.saturation", Result.FAIL, "TICKET", id="full is never a page"),
        pytest.param("process.memory.fragmentation", Result.FAIL, "TICKET", id="nor fragmented"),
    ],
)
def test_class(kind, result, expected):
    """An anomaly alone never pages: hard faults only."""
    found = message(opened(kind, result=result)).default_class

    assert finding_pb2.FindingClass.Name(found) == f"FINDING_CLASS_{expected}"


def test_a_finding_travels_whole():
    fact = Evidence("wait", 12.0, "seconds", threshold=10.0, source="nvml", at_s=999.25)

    sent = message(opened(code=79, evidence=(fact,), causes=("gpu.xid|31|GPU-1||",)))

    assert sent.dedup_key == "n1|gpu.xid|79|GPU-1||"
    assert list(sent.cause_dedup_keys) == ["n1|gpu.xid|31|GPU-1||"]
    assert (sent.subject.node, sent.subject.gpu_uuid, sent.subject.pid) == ("n1", "GPU-1", 7)
    assert sent.since.seconds == 1_799_999_990
    assert (sent.last_seen.seconds, sent.last_seen.nanos) == (1_800_000_000, 500_000_000)
    assert (sent.count, sent.code, sent.confidence) == (6, 79, 1.0)
    assert sent.suggested_action == finding_pb2.SUGGESTED_ACTION_CHECK_APPLICATION
    assert sent.cause_domain == finding_pb2.CAUSE_DOMAIN_GPU
    assert (sent.evidence[0].value, sent.evidence[0].threshold) == (12.0, 10.0)
    assert sent.evidence[0].observed_at.nanos == 250_000_000
    assert not sent.HasField("cleared_at")


def test_a_finding_may_have_another_domain_than_its_kind():
    sent = message(opened(domain=CauseDomain.NETWORK))

    assert sent.cause_domain == finding_pb2.CAUSE_DOMAIN_NETWORK


def test_no_threshold_is_not_a_threshold_of_zero():
    sent = message(opened(evidence=(Evidence("a", 1.0), Evidence("b", 1.0, threshold=0.0))))

    assert [fact.HasField("threshold") for fact in sent.evidence] == [False, True]


@given(st.text(st.characters(exclude_categories=()), max_size=3_000))
def test_no_text_from_outside_breaks_a_report(text):
    """Kernel lines and process names hold anything; what is sent is valid and bounded."""
    finding = Finding(
        "gpu.xid", Subject(process=text), text, evidence=(Evidence("line", text=text),)
    )
    sent = message(OpenFinding("i-1", finding, 1.0, 1.0, 1.0, 1))
    read = finding_pb2.Finding.FromString(sent.SerializeToString())

    assert len(read.subject.process_key) <= 300
    assert len(read.evidence[0].text) <= 2_000
    assert "\n" not in read.summary


def test_an_event_is_over_when_it_is_sent():
    """It holds nothing open; its times are the wall's, for it may be sent after a reboot."""
    sent = finding_pb2.Finding.FromString(wire.spooled(opened(), node="n1", wall_offset_s=OFFSET_S))

    assert sent.state == finding_pb2.FINDING_STATE_CLEARED
    assert sent.cleared_at == sent.last_seen
    assert sent.since.seconds == 1_799_999_990


def snapshot():
    samples = (Sample(SeriesKey("gpu_power_draw_watts", gpu="GPU-1"), 999.5, 70.0),)
    return Snapshot(
        node="n1",
        boot_id="boot-1",
        at_s=1_000.0,
        wall_offset_s=OFFSET_S,
        driver=Driver(up=True, version="580.95.05"),
        gpus=(Gpu("GPU-1", 0, "H100", "1B", "165", frozenset({"b", "a"})),),
        processes=(Process("vllm", 7, 99, ("GPU-1",), tapped=True),),
        samples=MappingProxyType({sample.key: sample for sample in samples}),
        open_findings=(opened(),),
        services=(ServiceTotals("chat", "x:1", 10.0, 20.0, 9, 2, 0, 1, 500, True, 3, 4),),
        components=(ComponentHealth("sampler.kmsg", Result.UNKNOWN, "denied"),),
    )


def test_a_report_holds_everything_open_and_every_event():
    event = wire.spooled(opened(code=31), node="n1", wall_offset_s=OFFSET_S)

    sent = wire.report(snapshot(), instance="abc", seq=5, events=[(17, event)])

    assert (sent.node, sent.boot_id, sent.agent_instance, sent.seq) == ("n1", "boot-1", "abc", 5)
    assert sent.at.seconds == 1_800_000_000
    assert [f.finding_id for f in sent.findings] == ["i-1"]
    assert [(e.seq, e.finding.code) for e in sent.events] == [(17, 31)]
    assert [c.component for c in sent.components] == ["sampler.kmsg"]
    (totals,) = sent.service_totals
    assert (totals.service, totals.instance, totals.requests, totals.failed) == (
        "chat",
        "x:1",
        9,
        2,
    )
    assert (totals.over_objective, totals.tokens, totals.waiting, totals.running) == (1, 500, 3, 4)
    assert (totals.started_at.seconds, totals.observed_at.seconds, totals.ready) == (10, 20, True)
    assert report_pb2.Report.FromString(sent.SerializeToString()) == sent


def test_a_snapshot_holds_the_node():
    sent = wire.snapshot_message(snapshot())

    assert (sent.driver_up, sent.driver_version) == (True, "580.95.05")
    assert (sent.gpus[0].uuid, list(sent.gpus[0].unsupported_signals)) == ("GPU-1", ["a", "b"])
    assert (sent.processes[0].process_key, sent.processes[0].tapped) == ("vllm", True)
    assert sent.values[0].series == agent_pb2.SeriesKey(
        signal="gpu_power_draw_watts", gpu_uuid="GPU-1"
    )
    assert (sent.values[0].value, sent.values[0].at.nanos) == (70.0, 500_000_000)
    assert len(sent.findings) == len(sent.service_totals) == len(sent.components) == 1


@given(st.integers(0, 4_000_000_000_000_000))
def test_wall_time_is_kept_to_the_microsecond(microseconds):
    sent = wire.wall_time(microseconds / 1e6)

    assert sent.seconds * 1_000_000 + sent.nanos // 1_000 == microseconds
