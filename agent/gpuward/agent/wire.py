"""Turn the agent's values into ``gpuward.v1`` messages: the one place that knows both.

Inside the agent time is monotonic; here it becomes wall time with the offset of the snapshot it
belongs to.  Strings that came from outside (kernel lines, process names) are made valid UTF-8 and
cut to the length that the contract allows, so that one hostile name cannot break a report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from gpuward.agent.kinds import KINDS, class_of
from gpuward.agent.model import FindingClass
from gpuward.v1 import agent_pb2, finding_pb2, report_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.agent.model import (
        ComponentHealth,
        Evidence,
        Gpu,
        OpenFinding,
        Process,
        Sample,
        Snapshot,
        Subject,
    )
    from gpuward.agent.service_totals import ServiceTotals

MAX_NAME_LENGTH = 300
MAX_KEY_LENGTH = 1_200
MAX_TEXT_LENGTH = 2_000
RAISED = finding_pb2.FINDING_STATE_RAISED
UPDATED = finding_pb2.FINDING_STATE_UPDATED
CLEARED = finding_pb2.FINDING_STATE_CLEARED


def report(
    snapshot: Snapshot, *, instance: str, seq: int, events: Sequence[tuple[int, bytes]]
) -> report_pb2.Report:
    """Return the whole open state of ``snapshot``; ``events`` are (seq, ``spooled`` bytes)."""
    return report_pb2.Report(
        node=snapshot.node,
        boot_id=snapshot.boot_id,
        agent_instance=instance,
        seq=seq,
        at=wall_time(snapshot.at_s + snapshot.wall_offset_s),
        findings=_open_findings(snapshot),
        events=[_spooled_event(event_seq, data) for event_seq, data in events],
        service_totals=map(_totals, snapshot.services),
        components=map(_component, snapshot.components),
    )


def snapshot_message(snapshot: Snapshot) -> agent_pb2.Snapshot:
    """Return all that the agent knows now."""
    return agent_pb2.Snapshot(
        node=snapshot.node,
        boot_id=snapshot.boot_id,
        at=wall_time(snapshot.at_s + snapshot.wall_offset_s),
        driver_up=snapshot.driver.up,
        driver_version=_name(snapshot.driver.version),
        driver_reason="" if snapshot.driver.up else valid(snapshot.driver.reason, MAX_TEXT_LENGTH),
        gpus=map(_gpu, snapshot.gpus),
        processes=map(_process, snapshot.processes),
        values=[_value(sample, snapshot.wall_offset_s) for sample in snapshot.samples.values()],
        findings=_open_findings(snapshot),
        service_totals=map(_totals, snapshot.services),
        components=map(_component, snapshot.components),
    )


def spooled(finding: OpenFinding, *, node: str, wall_offset_s: float) -> bytes:
    """Return the bytes to spool: with wall times, which outlive a reboot as monotonic ones do not.

    An event is over when it is seen, so its state is cleared and it holds nothing open.
    """
    message = finding_message(finding, node=node, wall_offset_s=wall_offset_s, state=CLEARED)
    message.cleared_at.CopyFrom(message.last_seen)
    return message.SerializeToString()


def finding_message(
    opened: OpenFinding,
    *,
    node: str,
    wall_offset_s: float,
    state: finding_pb2.FindingState.ValueType,
) -> finding_pb2.Finding:
    """Return ``opened`` with its kind's class, domain and action filled in."""
    finding, kind = opened.finding, KINDS[opened.finding.kind]
    return finding_pb2.Finding(
        finding_id=opened.finding_id,
        dedup_key=f"{node}|{valid(finding.dedup_key, MAX_KEY_LENGTH)}",
        kind=finding.kind,
        code=finding.code,
        subject=_subject(finding.subject, node),
        state=state,
        default_class=_class(opened),
        cause_domain=_enum(
            finding_pb2.CauseDomain, "CAUSE_DOMAIN", (finding.domain or kind.domain).name
        ),
        result=_enum(finding_pb2.CheckResult, "CHECK_RESULT", finding.result.name),
        since=wall_time(opened.since_s + wall_offset_s),
        last_seen=wall_time(opened.last_seen_s + wall_offset_s),
        count=opened.count,
        confidence=finding.confidence,
        summary=" ".join(valid(finding.summary, MAX_TEXT_LENGTH).split()),
        evidence=[evidence(fact, wall_offset_s) for fact in finding.evidence],
        suggested_action=_enum(
            finding_pb2.SuggestedAction, "SUGGESTED_ACTION", (finding.action or kind.action).name
        ),
        cause_dedup_keys=[
            f"{node}|{valid(cause, MAX_KEY_LENGTH)}"
            for cause in dict.fromkeys((*finding.causes, *opened.explained_by))
        ],
    )


def wall_time(wall_s: float) -> Timestamp:
    """Return ``wall_s``, seconds since 1970, to the microsecond."""
    microseconds = round(wall_s * 1e6)
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1_000)


def _open_findings(snapshot: Snapshot) -> list[finding_pb2.Finding]:
    return [
        finding_message(
            opened,
            node=snapshot.node,
            wall_offset_s=snapshot.wall_offset_s,
            state=RAISED if opened.count == 1 else UPDATED,
        )
        for opened in snapshot.open_findings
    ]


def _class(opened: OpenFinding) -> finding_pb2.FindingClass.ValueType:
    told = FindingClass.STORE if opened.suppressed else class_of(opened.finding)
    return finding_pb2.FindingClass.Value(f"FINDING_CLASS_{told.name}")


def _spooled_event(seq: int, data: bytes) -> report_pb2.SpooledEvent:
    return report_pb2.SpooledEvent(seq=seq, finding=finding_pb2.Finding.FromString(data))


def _subject(subject: Subject, node: str) -> finding_pb2.Subject:
    return finding_pb2.Subject(
        node=node,
        gpu_uuid=_name(subject.gpu),
        gpu_serial=_name(subject.gpu_serial),
        process_key=_name(subject.process),
        pid=subject.pid,
        unit=_name(subject.unit),
        pod=_name(subject.pod),
        container=_name(subject.container),
        engine=_name(subject.engine),
        model=_name(subject.model),
        service=_name(subject.service),
        endpoint=_name(subject.endpoint),
    )


def evidence(fact: Evidence, wall_offset_s: float) -> finding_pb2.Evidence:
    """Return one fact."""
    return finding_pb2.Evidence(
        name=_name(fact.name),
        value=fact.value,
        unit=fact.unit,
        threshold=fact.threshold,
        text=valid(fact.text, MAX_TEXT_LENGTH),
        observed_at=None if fact.at_s is None else wall_time(fact.at_s + wall_offset_s),
        source=fact.source,
    )


def _gpu(gpu: Gpu) -> agent_pb2.GpuIdentity:
    return agent_pb2.GpuIdentity(
        uuid=_name(gpu.uuid),
        serial=_name(gpu.serial),
        name=_name(gpu.name),
        pci_bus_id=_name(gpu.pci_bus_id),
        index=gpu.index,
        unsupported_signals=sorted(gpu.unsupported),
    )


def _process(process: Process) -> agent_pb2.ProcessIdentity:
    return agent_pb2.ProcessIdentity(
        process_key=_name(process.key),
        pid=process.pid,
        start_ticks=process.start_ticks,
        gpu_uuids=map(_name, process.gpus),
        unit=_name(process.unit),
        pod=_name(process.pod),
        container=_name(process.container),
        engine=_name(process.engine),
        model=_name(process.model),
        service=_name(process.service),
        tapped=process.tapped,
        rank=_name(process.rank),
    )


def _value(sample: Sample, wall_offset_s: float) -> agent_pb2.SignalValue:
    return agent_pb2.SignalValue(
        series=agent_pb2.SeriesKey(
            signal=sample.key.signal,
            gpu_uuid=_name(sample.key.gpu),
            process_key=_name(sample.key.process),
            service=_name(sample.key.service),
            endpoint=_name(sample.key.endpoint),
        ),
        value=sample.value,
        at=wall_time(sample.at_s + wall_offset_s),
    )


def _totals(totals: ServiceTotals) -> report_pb2.ServiceTotals:
    return report_pb2.ServiceTotals(
        service=_name(totals.service),
        instance=_name(totals.instance),
        started_at=wall_time(totals.started_wall_s),
        observed_at=wall_time(totals.observed_wall_s),
        requests=totals.requests,
        failed=totals.failed,
        timed_out=totals.timed_out,
        over_objective=totals.over_objective,
        tokens=totals.tokens,
        ready=totals.ready,
        waiting=totals.waiting,
        running=totals.running,
        model=_name(totals.model),
        version=_name(totals.version),
        previous_model=_name(totals.previous_model),
        previous_version=_name(totals.previous_version),
        changed_at=wall_time(totals.changed_wall_s) if totals.changed_wall_s else None,
    )


def _component(health: ComponentHealth) -> report_pb2.ComponentHealth:
    return report_pb2.ComponentHealth(
        component=health.component,
        result=_enum(finding_pb2.CheckResult, "CHECK_RESULT", health.result.name),
        reason=valid(health.reason, MAX_TEXT_LENGTH),
    )


def _enum(kind: Any, prefix: str, name: str) -> Any:
    # Contract and model use the same words; a test compares the two vocabularies.
    return kind.Value(f"{prefix}_{name}")


def _name(text: str) -> str:
    return valid(text, MAX_NAME_LENGTH)


def valid(text: str, limit: int) -> str:
    """Return what came from outside as UTF-8, cut to ``limit``."""
    return text[:limit].encode("utf-8", "replace").decode()
