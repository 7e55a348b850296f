"""Choose what a person is shown of a node, from one snapshot.  Pure.

`gpuward agent scan` and `gpuward agent top` show the same rows; how they are drawn is another
module's business.  A figure that is not known is ``None`` and never 0, and a GPU is called well
only when somebody looked: unknown is not healthy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.node_view_gpus import Figures, GpuRow, Loudness, gpu_rows
from gpuward.agent.node_view_processes import ProcessRow, process_rows
from gpuward.v1 import finding_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpuward.v1 import agent_pb2

KMSG = "sampler.kmsg"
XID = "gpu.xid"
OK = finding_pb2.CHECK_RESULT_OK
# Shown of a finding's evidence; all of it is in the agent's answer.
MOST_FACTS = 3
FACT_LIMIT = 120
# What to do, in the words of somebody who has to.
ACTIONS = {
    finding_pb2.SUGGESTED_ACTION_CHECK_APPLICATION: "look at the application",
    finding_pb2.SUGGESTED_ACTION_RESTART_APPLICATION: "restart the application",
    finding_pb2.SUGGESTED_ACTION_SCALE_UP: "add replicas",
    finding_pb2.SUGGESTED_ACTION_RESET_GPU: "drain the GPU and reset it",
    finding_pb2.SUGGESTED_ACTION_REBOOT_NODE: "drain and reboot the node",
    finding_pb2.SUGGESTED_ACTION_DRAIN_NODE: "drain the node",
    finding_pb2.SUGGESTED_ACTION_REPLACE_HARDWARE: "drain the node and replace the hardware",
    finding_pb2.SUGGESTED_ACTION_INSTALL_DRIVER: "install another driver",
}
_LOUDNESS = {
    finding_pb2.FINDING_CLASS_STORE: Loudness.NOTE,
    finding_pb2.FINDING_CLASS_TICKET: Loudness.TICKET,
    finding_pb2.FINDING_CLASS_PAGE: Loudness.PAGE,
}


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding; ``gpu`` is the index of a known GPU, ``lasted_s`` since its onset."""

    loudness: Loudness
    kind: str
    code: int
    gpu: int | None
    gpu_uuid: str
    process: str
    service: str
    endpoint: str
    summary: str
    # Empty where nothing need be done.
    action: str
    lasted_s: float
    # The first facts, in words.
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lasted:
    """A duration as an engine counts it: the sum of seconds, and how many it is of."""

    seconds: float
    count: float


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One instance of a service, since it started."""

    service: str
    instance: str
    ready: bool
    waiting: int
    running: int
    requests: int
    failed: int
    timed_out: int
    over_objective: int
    # ``None`` where its engine does not tell.
    first_token: Lasted | None = None
    inter_token: Lasted | None = None


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Something that nobody looked at, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """What is known of a node at ``at_s``, seconds since 1970."""

    node: str
    at_s: float
    driver_up: bool
    driver_version: str
    # Why it does not answer, where that is known.
    driver_reason: str
    # That PCI has bound to the driver; ``None`` where PCI cannot be read.
    gpus_expected: int | None
    gpus: tuple[GpuRow, ...]
    # Those whose allocator is seen.
    processes: tuple[ProcessRow, ...]
    # Loudest first, then oldest first.
    findings: tuple[FindingRow, ...]
    services: tuple[ServiceRow, ...]
    unchecked: tuple[Unchecked, ...]

    @property
    def loudest(self) -> Loudness:
        """Return how loud the loudest finding is; ``NOTE`` when there is none."""
        return max((row.loudness for row in self.findings), default=Loudness.NOTE)


def node_view(
    snapshot: agent_pb2.Snapshot,
    *,
    xids: Mapping[str, Sequence[int]] | None = None,
    unchecked: Sequence[Unchecked] = (),
) -> NodeView:
    """Return what to show of ``snapshot``.

    ``xids``: codes that the kernel logged since the boot, by UUID; ``None``: those of findings.
    """
    at_s = snapshot.at.ToNanoseconds() / 1e9
    figures = Figures(snapshot)
    indexes = {gpu.uuid: gpu.index for gpu in snapshot.gpus}
    findings = sorted(
        (_finding_row(finding, indexes, at_s) for finding in snapshot.findings),
        key=lambda row: (-row.loudness, -row.lasted_s, row.kind),
    )
    loudest: dict[str, Loudness] = {}
    for row in findings:
        loudest[row.gpu_uuid] = max(row.loudness, loudest.get(row.gpu_uuid, Loudness.NOTE))
    return NodeView(
        node=snapshot.node,
        at_s=at_s,
        driver_up=snapshot.driver_up,
        driver_version=snapshot.driver_version,
        driver_reason=snapshot.driver_reason,
        gpus_expected=_gpus_expected(snapshot),
        gpus=gpu_rows(
            figures, snapshot.gpus, loudest, _open_xids(snapshot) if xids is None else xids
        ),
        processes=process_rows(figures, indexes),
        findings=tuple(findings),
        services=tuple(_service_rows(snapshot)),
        unchecked=(*unchecked, *_unwell(snapshot)),
    )


def _open_xids(snapshot: agent_pb2.Snapshot) -> dict[str, list[int]] | None:
    """Return codes of open findings by UUID, ``None`` while the kernel's log cannot be read."""
    if not any(h.component == KMSG and h.result == OK for h in snapshot.components):
        return None
    codes: dict[str, list[int]] = {}
    for finding in snapshot.findings:
        if finding.kind == XID:
            codes.setdefault(finding.subject.gpu_uuid, []).append(finding.code)
    return codes


def _gpus_expected(snapshot: agent_pb2.Snapshot) -> int | None:
    values = (v.value for v in snapshot.values if v.series.signal == "node_gpus_expected")
    return next(map(int, values), None)


def _finding_row(
    finding: finding_pb2.Finding, indexes: Mapping[str, int], at_s: float
) -> FindingRow:
    about = finding.subject
    return FindingRow(
        loudness=_LOUDNESS.get(finding.default_class, Loudness.NOTE),
        kind=finding.kind,
        code=finding.code,
        gpu=indexes.get(about.gpu_uuid),
        gpu_uuid=about.gpu_uuid,
        process=about.process_key,
        service=about.service,
        endpoint=about.endpoint,
        summary=finding.summary,
        action=ACTIONS.get(finding.suggested_action, ""),
        lasted_s=max(0.0, at_s - finding.since.ToNanoseconds() / 1e9),
        evidence=tuple(_fact(fact) for fact in finding.evidence[:MOST_FACTS]),
    )


def _fact(fact: finding_pb2.Evidence) -> str:
    """Return a fact in a few words: what the log said, or a figure and its limit."""
    if fact.text:
        return fact.text[:FACT_LIMIT]
    unit = "" if fact.unit == "1" else f" {fact.unit}"
    limit = f" (limit {fact.threshold:g})" if fact.HasField("threshold") else ""
    return f"{fact.name} {fact.value:g}{unit}{limit}"


def _service_rows(snapshot: agent_pb2.Snapshot) -> Iterator[ServiceRow]:
    told = {
        (value.series.service, value.series.endpoint, value.series.signal): value.value
        for value in snapshot.values
        if value.series.endpoint
    }
    for totals in snapshot.service_totals:
        replica = (totals.service, totals.instance)
        yield ServiceRow(
            service=totals.service,
            instance=totals.instance,
            ready=totals.ready,
            waiting=totals.waiting,
            running=totals.running,
            requests=totals.requests,
            failed=totals.failed,
            timed_out=totals.timed_out,
            over_objective=totals.over_objective,
            first_token=_lasted(told, replica, "first_token"),
            inter_token=_lasted(told, replica, "inter_token"),
        )


def _lasted(
    told: Mapping[tuple[str, str, str], float], replica: tuple[str, str], name: str
) -> Lasted | None:
    seconds = told.get((*replica, f"replica_{name}_seconds_total"))
    count = told.get((*replica, f"replica_{name}s_total"))
    return None if seconds is None or count is None else Lasted(seconds, count)


def _unwell(snapshot: agent_pb2.Snapshot) -> Iterator[Unchecked]:
    """Yield the parts of the agent that cannot look."""
    for health in snapshot.components:
        if health.result != OK:
            yield Unchecked(health.component, health.reason or "it failed")
