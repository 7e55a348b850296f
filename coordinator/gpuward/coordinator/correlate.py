"""Turn findings into incidents: which open, which grow, which findings are causes.

A finding opens an incident of its own only when no service incident lists it (see
``service_incident``): one trouble, one incident.  Key of a group: the service, or node, GPU and
kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuward.coordinator import events as e
from gpuward.coordinator.model import (
    Finding,
    FindingClass,
    Incident,
    LinkedFinding,
    Relation,
    Severity,
)
from gpuward.coordinator.oncall import ROTATION_OF

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpuward.coordinator.report import Report

SERVICE_IMPACT = "service.impact"
NODE_OVERDUE = "node.overdue"
# How the key of an injected finding ends, as the agent makes it.
DRILL = "|drill"
# MISSION: a hard fault is a major degradation until impact says otherwise; a ticket waits.
SEVERITY_OF = {FindingClass.PAGE: Severity.SEV2, FindingClass.TICKET: Severity.SEV4}


@dataclass(frozen=True, slots=True)
class Delta:
    """How the findings of a node changed with a report.

    ``louder``: those of ``updated`` whose class changed, and which therefore are placed anew.
    """

    raised: tuple[Finding, ...]
    updated: tuple[Finding, ...]
    louder: tuple[Finding, ...]
    cleared: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Open:
    """A new incident shall open with these first commands."""

    event: e.Opened
    then: tuple[e.Command, ...]


@dataclass(frozen=True, slots=True)
class Tell:
    """An open incident shall be told."""

    incident: Incident
    commands: tuple[e.Command, ...]


def compare(known: Iterable[Finding], report: Report) -> Delta:
    """Return what ``report`` changes; a finding of ``known`` that it misses has cleared.

    ``known``: the open findings of that node.
    """
    before = {finding.finding_id: finding for finding in known}
    now = {finding.finding_id: finding for finding in report.findings if finding.is_open}
    told_cleared = {f.finding_id: f for f in report.findings if not f.is_open}
    cleared = (
        told_cleared.get(finding_id, replace(finding, cleared_at_s=report.at_s))
        for finding_id, finding in before.items()
        if finding_id not in now
    )
    updated = tuple(f for i, f in now.items() if i in before and before[i] != f)
    return Delta(
        raised=tuple(f for finding_id, f in now.items() if finding_id not in before),
        updated=updated,
        louder=tuple(
            f for f in updated if f.default_class is not before[f.finding_id].default_class
        ),
        cleared=tuple(cleared),
    )


def place(finding: Finding, incidents: Sequence[Incident]) -> Open | Tell | None:
    """Return where a raised, updated or one-shot ``finding`` belongs; ``None`` for nowhere new.

    ``incidents``: all open ones.
    """
    severity = SEVERITY_OF.get(finding.default_class)
    if severity is None or _is_cause(finding, incidents):
        return None
    # A drill is heard alone: in a real incident it would pass for a part of it.
    hurt = None if is_drill(finding) else _service_incident(finding.subject.service, incidents)
    notes = (e.Note(e.MACHINE, finding.class_note),) if finding.class_note else ()
    if hurt is not None:
        return Tell(hurt, (e.LinkFinding(linked(finding, Relation.SERVICE)), *notes))
    key = group_key(finding)
    link = e.LinkFinding(linked(finding, Relation.SUBJECT))
    own = next((i for i in incidents if i.group_key == key), None)
    if own is None:
        return Open(_opened(finding, key, severity), (link, *notes))
    if severity.worse_than(own.severity):
        return Tell(own, (link, *notes, e.ChangeSeverity(severity, (finding.summary,))))
    return Tell(own, (link, *notes))


def clear(finding: Finding, incidents: Iterable[Incident]) -> tuple[Tell, ...]:
    """Return which of ``incidents`` must hear that ``finding`` has cleared."""
    return tuple(
        Tell(incident, (e.ClearFinding(finding.finding_id),))
        for incident in incidents
        if any(f.finding_id == finding.finding_id and f.is_open for f in incident.findings)
    )


def linked(finding: Finding, relation: Relation) -> LinkedFinding:
    """Return ``finding`` as an incident keeps it."""
    return LinkedFinding(
        finding_id=finding.finding_id,
        dedup_key=finding.dedup_key,
        kind=finding.kind,
        relation=relation,
        domain=finding.domain,
        summary=finding.summary,
        confidence=finding.confidence,
        is_open=finding.is_open,
        follows=finding.cause_dedup_keys,
        since_s=finding.since_s,
        gpu_uuid=finding.subject.gpu_uuid,
        gpu_serial=finding.subject.gpu_serial,
    )


def service_key(service: str) -> str:
    """Return what groups everything that hurts the users of ``service`` into one incident."""
    return f"service|{service}"


def group_key(finding: Finding) -> str:
    """Return what groups findings into one incident: node, GPU and kind.

    Silent nodes are one group: a broken network is one trouble, not one per node.
    """
    if finding.kind == NODE_OVERDUE:
        return f"finding|{NODE_OVERDUE}"
    key = f"finding|{finding.subject.node}|{finding.subject.gpu_uuid}|{finding.kind}"
    return f"{key}{DRILL}" if is_drill(finding) else key


def is_drill(finding: Finding) -> bool:
    """Return whether somebody injected ``finding``: its key says so."""
    return finding.dedup_key.endswith(DRILL)


def _opened(finding: Finding, key: str, severity: Severity) -> e.Opened:
    return e.Opened(
        group_key=key,
        kind=finding.kind,
        title=finding.summary,
        severity=severity,
        domain=finding.domain,
        rotation=ROTATION_OF[finding.domain],
        service=finding.subject.service,
        node=finding.subject.node,
        gpu_uuid=finding.subject.gpu_uuid,
        reasons=(finding.summary,),
    )


def _service_incident(service: str, incidents: Iterable[Incident]) -> Incident | None:
    hurt = (i for i in incidents if i.kind == SERVICE_IMPACT and service and i.service == service)
    return next(hurt, None)


def _is_cause(finding: Finding, incidents: Iterable[Incident]) -> bool:
    return any(
        linked_finding.dedup_key == finding.dedup_key
        for incident in incidents
        if incident.kind == SERVICE_IMPACT
        for linked_finding in incident.findings
    )
