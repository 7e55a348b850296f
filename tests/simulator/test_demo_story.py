"""How the demo reads agent and coordinator, and how it tells what it read."""

from __future__ import annotations

import msgspec
import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.model import CauseDomain, LinkedFinding, Relation, Rotation, Severity
from gpuward.simulator.demo import node
from gpuward.simulator.demo.centre import Entry, Incident
from gpuward.simulator.demo.narrator import Tone
from gpuward.simulator.demo.telling import line_of

FINDING = LinkedFinding(
    finding_id="f1",
    dedup_key="n|k",
    kind="process.memory.fragmentation",
    relation=Relation.NODE,
    domain=CauseDomain.CAPACITY,
    summary="7.5 GiB stranded.",
)


def as_read(event: e.AnyEvent) -> Entry:
    """The entry as it arrives over the coordinator's JSON API."""
    return msgspec.json.decode(msgspec.json.encode(e.TimelineEntry(1, 2.0, event)), type=Entry)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        pytest.param(
            e.Opened(
                group_key="k",
                kind="service.impact",
                title="chat: 20 % of requests fail",
                severity=Severity.SEV2,
                domain=CauseDomain.CAPACITY,
                rotation=Rotation.INFRASTRUCTURE,
            ),
            ("incident", "opened SEV2 for infrastructure: chat: 20 % of requests fail", Tone.ALARM),
            id="opened",
        ),
        pytest.param(
            e.FindingLinked(FINDING),
            ("cause", "process.memory.fragmentation: 7.5 GiB stranded.", Tone.WARNING),
            id="cause",
        ),
        pytest.param(
            e.FindingCleared("f1", "n|k", "7.5 GiB stranded."),
            ("cause", "cleared: 7.5 GiB stranded.", Tone.GOOD),
            id="cause gone",
        ),
        pytest.param(
            e.SeverityChanged(Severity.SEV3, Severity.SEV2, ("a", "b")),
            ("incident", "SEV3 is now SEV2: a; b", Tone.ALARM),
            id="worse",
        ),
        pytest.param(
            e.SeverityChanged(Severity.SEV2, Severity.SEV3, ("a",)),
            ("incident", "SEV2 is now SEV3: a", Tone.GOOD),
            id="better",
        ),
        pytest.param(
            e.HandedOver(
                CauseDomain.MODEL, Rotation.ML, Rotation.INFRASTRUCTURE, "it is the model"
            ),
            ("incident", "handed over to ml: it is the model", Tone.WARNING),
            id="handed over",
        ),
        pytest.param(
            e.AcknowledgementMissed(1.0),
            ("escalation", "nobody acknowledged in time", Tone.ALARM),
            id="missed",
        ),
        pytest.param(
            e.StepFired("L3", ("edsger", "barbara"), ("pager",)),
            ("escalation", "L3 is due: page edsger, barbara by pager", Tone.ALARM),
            id="step",
        ),
        pytest.param(
            e.PageSent("L1", "ada", "pager", "inc-1-L1", 1),
            ("page", "L1 reached ada by pager, inc-1-L1", Tone.PLAIN),
            id="page",
        ),
        pytest.param(
            e.MemoryMapTaken("vllm", 7, "GPU-1", 1.0, 78 << 30, 73 << 30, 5 << 30, 0, 1 << 30),
            (
                "agent",
                "memory map of vllm: 5.0 of 78 GiB stranded; the picture is on the page",
                Tone.PLAIN,
            ),
            id="memory map",
        ),
        pytest.param(
            e.Acknowledged("grace", "looking"),
            ("person", "grace acknowledges: looking", Tone.GOOD),
            id="acknowledged",
        ),
        pytest.param(
            e.Mitigated("gpuward", "calm"), ("incident", "mitigated: calm", Tone.GOOD), id="calm"
        ),
        pytest.param(
            e.Resolved("grace"), ("person", "grace resolves: no note", Tone.GOOD), id="resolved"
        ),
        pytest.param(e.Noted("grace", "hm"), None, id="left to the page"),
    ],
)
def test_telling(event, line):
    """An event of the coordinator, as its API sends it, becomes this line."""
    assert line == line_of(as_read(event))


def test_step_of_an_incident():
    """The entry of the level's firing; none before it has fired."""
    entries = [as_read(e.StepFired(level, ("ada",), ("pager",))) for level in ("L1", "L2")]
    incident = Incident(
        id="i",
        kind="service.impact",
        title="",
        state="open",
        severity="SEV2",
        rotation="infrastructure",
        domain="capacity",
        version=2,
        opened_at_s=0.0,
        timeline=entries,
    )

    assert entries[1] is incident.step("L2")
    assert None is incident.step("L3")


def test_metrics_of_the_agent():
    """Names, labels with escapes, values; comments and garbage are left out."""
    metrics = node.parse(
        "# HELP gpuward_driver_up 1 when\n"
        "gpuward_driver_up 1.0\n"
        'gpuward_process_memory_stranded_bytes{gpu="GPU-1",process="a \\"b\\" {c}"} 3.5e9\n'
        'gpuward_process_memory_stranded_bytes{gpu="GPU-2",process="d"} 5e8\n'
        'gpuward_finding_open{kind="gpu.xid",code="79",result="fail"} 1\n'
        "not a series\n"
    )

    assert 4_000_000_000 == metrics.total("gpuward_process_memory_stranded_bytes")
    assert [5e8] == [
        one.value for one in metrics.named("gpuward_process_memory_stranded_bytes", gpu="GPU-2")
    ]
    assert 'a \\"b\\" {c}' == metrics.label("gpuward_process_memory_stranded_bytes", "process")
    assert (True, False) == (metrics.has_finding("gpu.xid"), metrics.has_finding("gpu.lost"))
    assert 4 == len(metrics.series)
