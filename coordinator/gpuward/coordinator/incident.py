"""Incident as a fold of events: what happened decides what it is.

``decide`` asks "may this happen, and what does it mean?"; ``apply`` says what an event changes.
Both are pure, so any incident can be rebuilt from its events, and a replay tests the real thing.
"""

# ruff: noqa: ARG001 - the handlers of one dispatch share their parameters

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce, singledispatch
from typing import TYPE_CHECKING

from gpuward.coordinator import events as e
from gpuward.coordinator.cause import is_sure_verdict
from gpuward.coordinator.diagnosis.weigh import is_news, reason
from gpuward.coordinator.model import Incident, LinkedFinding, Relation, Severity, State

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Refused:
    """The command makes no sense for this incident now; ``reason`` is for a person."""

    reason: str


def opened(incident_id: str, event: e.Opened, now_s: float) -> Incident:
    """Return the incident that ``event`` opens; its version is 1."""
    return Incident(
        id=incident_id,
        group_key=event.group_key,
        kind=event.kind,
        title=event.title,
        state=State.OPEN,
        severity=event.severity,
        peak_severity=event.severity,
        domain=event.domain,
        rotation=event.rotation,
        opened_at_s=now_s,
        updated_at_s=now_s,
        service=event.service,
        node=event.node,
        gpu_uuid=event.gpu_uuid,
        reasons=event.reasons,
        customer_impact=event.customer_impact,
        impact_since_s=event.impact_since_s,
        sev1_at_s=now_s if event.severity is Severity.SEV1 else None,
        escalates_from_s=now_s if event.severity.pages else None,
        version=1,
    )


def fold(incident_id: str, entries: Iterable[e.TimelineEntry]) -> Incident:
    """Return the incident that ``entries``, oldest first, add up to.

    Raises ``TypeError`` unless the first is ``Opened``.
    """
    first, *rest = entries
    if not isinstance(first.event, e.Opened):
        raise TypeError(f"incident {incident_id} begins with {type(first.event).__name__}")
    start = opened(incident_id, first.event, first.at_s)
    return reduce(lambda incident, entry: apply(incident, entry.event, entry.at_s), rest, start)


def apply(incident: Incident, event: e.AnyEvent, at_s: float) -> Incident:
    """Return ``incident`` after ``event``; every event counts one version."""
    stamped = replace(incident, version=incident.version + 1, updated_at_s=at_s)
    return _change(event, stamped)


def decide(incident: Incident, command: e.Command) -> tuple[e.AnyEvent, ...] | Refused:
    """Return what ``command`` brings about; empty when it is so already.

    A resolved incident takes notes and nothing else.
    """
    if not incident.is_open and not isinstance(command, e.Note | e.Resolve):
        return Refused("it is resolved")
    return _decide(command, incident)


@singledispatch
def _change(event: object, incident: Incident) -> Incident:
    """Events that only tell (pages, notes, steps) change nothing."""
    return incident


@_change.register
def _(event: e.FindingLinked, incident: Incident) -> Incident:
    others = (f for f in incident.findings if f.finding_id != event.finding.finding_id)
    grown = replace(incident, findings=(*others, event.finding))
    if event.finding.is_open and event.finding.relation is Relation.SUBJECT:
        grown = _relapsed(grown)
    return _settled(grown)


@_change.register
def _(event: e.FindingCleared, incident: Incident) -> Incident:
    findings = tuple(
        replace(f, is_open=False) if f.finding_id == event.finding_id else f
        for f in incident.findings
    )
    return _settled(replace(incident, findings=findings))


@_change.register
def _(event: e.SeverityChanged, incident: Incident) -> Incident:
    now_s = incident.updated_at_s
    sev1_touched = Severity.SEV1 in (event.before, event.after)
    starts_paging = event.after.pages and incident.escalates_from_s is None
    return replace(
        incident,
        severity=event.after,
        peak_severity=min(incident.peak_severity, event.after),
        reasons=event.reasons,
        sev1_at_s=now_s if sev1_touched else incident.sev1_at_s,
        escalates_from_s=now_s if starts_paging else incident.escalates_from_s,
    )


@_change.register
def _(event: e.Diagnosed, incident: Incident) -> Incident:
    return replace(incident, diagnosis=event.diagnosis)


@_change.register
def _(event: e.HandedOver, incident: Incident) -> Incident:
    return replace(incident, domain=event.domain, rotation=event.rotation)


@_change.register
def _(event: e.Acknowledged, incident: Incident) -> Incident:
    state = State.ACKNOWLEDGED if incident.state is State.OPEN else incident.state
    return replace(
        incident, state=state, acknowledged_at_s=incident.updated_at_s, acknowledged_by=event.by
    )


@_change.register
def _(event: e.Unacknowledged, incident: Incident) -> Incident:
    state = State.OPEN if incident.state is State.ACKNOWLEDGED else incident.state
    return replace(incident, state=state, acknowledged_at_s=None, acknowledged_by="")


@_change.register
def _(event: e.ImpactBegan, incident: Incident) -> Incident:
    return replace(
        _relapsed(incident),
        customer_impact=True,
        impact_since_s=event.since_s,
        reasons=event.reasons,
    )


@_change.register
def _(event: e.Mitigated, incident: Incident) -> Incident:
    return replace(
        incident, state=State.MITIGATED, mitigated_at_s=incident.updated_at_s, customer_impact=False
    )


@_change.register
def _(event: e.AcknowledgementMissed, incident: Incident) -> Incident:
    return replace(incident, acknowledgement_missed_at_s=incident.updated_at_s)


@_change.register
def _(event: e.Resolved, incident: Incident) -> Incident:
    return replace(
        incident,
        state=State.RESOLVED,
        resolved_at_s=incident.updated_at_s,
        resolved_by=event.by,
        resolution=event.note,
        customer_impact=False if incident.customer_impact else incident.customer_impact,
    )


@singledispatch
def _decide(command: object, incident: Incident) -> tuple[e.AnyEvent, ...]:
    raise TypeError(f"not a command: {command!r}")


@_decide.register
def _(command: e.Acknowledge, incident: Incident) -> tuple[e.AnyEvent, ...]:
    if incident.acknowledged_at_s is not None:
        return ()
    return (e.Acknowledged(by=command.by, note=command.note),)


@_decide.register
def _(command: e.Unacknowledge, incident: Incident) -> tuple[e.AnyEvent, ...]:
    if incident.acknowledged_at_s is None:
        return ()
    return (e.Unacknowledged(by=command.by, reason=command.reason),)


@_decide.register
def _(command: e.Mitigate, incident: Incident) -> tuple[e.AnyEvent, ...]:
    if incident.state is State.MITIGATED:
        return ()
    return (e.Mitigated(by=command.by, reason=command.reason),)


@_decide.register
def _(command: e.Resolve, incident: Incident) -> tuple[e.AnyEvent, ...]:
    if not incident.is_open:
        return ()
    return (e.Resolved(by=command.by, note=command.note),)


@_decide.register
def _(command: e.Note, incident: Incident) -> tuple[e.AnyEvent, ...]:
    return (e.Noted(by=command.by, text=command.text),)


@_decide.register
def _(command: e.LinkFinding, incident: Incident) -> tuple[e.AnyEvent, ...]:
    known = find(incident, command.finding.finding_id)
    if known is not None and not _is_news(known, command.finding):
        return ()
    return (e.FindingLinked(finding=command.finding, incident_id=command.incident_id),)


def _is_news(known: LinkedFinding, now: LinkedFinding) -> bool:
    """Return whether a finding is closer than was known, or its verdict has become another."""
    if now.relation < known.relation:
        return True
    was = (is_sure_verdict(known), known.domain, known.follows)
    return is_sure_verdict(now) and was != (True, now.domain, now.follows)


@_decide.register
def _(command: e.ClearFinding, incident: Incident) -> tuple[e.AnyEvent, ...]:
    known = find(incident, command.finding_id)
    if known is None or not known.is_open:
        return ()
    return (e.FindingCleared(known.finding_id, known.dedup_key, known.summary),)


@_decide.register
def _(command: e.ChangeSeverity, incident: Incident) -> tuple[e.AnyEvent, ...]:
    if command.severity is incident.severity:
        return ()
    return (e.SeverityChanged(incident.severity, command.severity, command.reasons),)


@_decide.register
def _(command: e.Diagnose, incident: Incident) -> tuple[e.AnyEvent, ...]:
    before, after = incident.diagnosis, command.diagnosis
    if not is_news(before, after):
        return ()
    headline = "" if before is None else before.headline
    return (e.Diagnosed(after, command.case, headline, reason(before, after)),)


@_decide.register
def _(command: e.HandOver, incident: Incident) -> tuple[e.AnyEvent, ...]:
    if command.domain is incident.domain:
        return ()
    return (e.HandedOver(command.domain, command.rotation, incident.rotation, command.reason),)


@_decide.register
def _(command: e.BeginImpact, incident: Incident) -> tuple[e.AnyEvent, ...]:
    if incident.customer_impact and incident.state is not State.MITIGATED:
        return ()
    return (e.ImpactBegan(since_s=command.since_s, reasons=command.reasons),)


def _relapsed(incident: Incident) -> Incident:
    """Return ``incident`` back from mitigated to where it was before."""
    if incident.state is not State.MITIGATED:
        return incident
    state = State.OPEN if incident.acknowledged_at_s is None else State.ACKNOWLEDGED
    return replace(incident, state=state, mitigated_at_s=None)


def _settled(incident: Incident) -> Incident:
    quiet = bool(incident.findings) and not any(f.is_open for f in incident.findings)
    return replace(incident, quiet_since_s=incident.updated_at_s if quiet else None)


def find(incident: Incident, finding_id: str) -> LinkedFinding | None:
    """Return what ``incident`` knows of a finding, or ``None``."""
    return next((f for f in incident.findings if f.finding_id == finding_id), None)
