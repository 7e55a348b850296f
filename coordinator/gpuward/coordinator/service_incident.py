"""The incident of a service whose users are hurt: how it opens, its causes, whose it is.

It lists as causes what is wrong where the service runs: findings that name it, then those on the
same GPU, then those on its nodes.  What the verdicts of all its nodes come to, the diagnosis, says
which of them it is, and the cause's domain picks the rotation; while it is undetermined the
strongest finding does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.coordinator import events as e
from gpuward.coordinator.cause import named_by_verdicts, strength
from gpuward.coordinator.correlate import SERVICE_IMPACT, Open, is_drill, linked, service_key
from gpuward.coordinator.diagnosis.weigh import diagnose
from gpuward.coordinator.model import (
    CauseDomain,
    Finding,
    Incident,
    LinkedFinding,
    Relation,
    Severity,
)
from gpuward.coordinator.oncall import ROTATION_OF

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpuward.coordinator.diagnosis.values import Case, Diagnosis
    from gpuward.coordinator.impact import Impact
    from gpuward.coordinator.severity import Assessment


def open_service(
    impact: Impact,
    assessment: Assessment,
    findings: Iterable[Finding],
    incidents: Sequence[Incident],
    case: Case,
) -> Open:
    """Return the incident of a service whose users are hurt, with its causes.

    ``incidents``: all open ones; a cause that has one of its own is linked to it.
    """
    causes = find_causes(impact, findings)
    diagnosis = diagnose(case)
    domain = _domain(diagnosis, causes)
    event = e.Opened(
        group_key=service_key(impact.service),
        kind=SERVICE_IMPACT,
        title=f"{impact.service}: {assessment.headline}",
        severity=assessment.severity or Severity.SEV4,
        domain=domain,
        rotation=ROTATION_OF[domain],
        service=impact.service,
        reasons=assessment.reasons,
        customer_impact=True,
        impact_since_s=case.onset_s,
    )
    return Open(event, (*_links(causes, incidents), *_diagnosed(diagnosis, case)))


def update_causes(
    incident: Incident,
    impact: Impact,
    findings: Iterable[Finding],
    incidents: Sequence[Incident],
    case: Case,
) -> tuple[e.Command, ...]:
    """Return how a service incident's causes, diagnosis and domain change with what is found now.

    Whoever has it answers on while nothing says that it is another's.
    """
    causes = find_causes(impact, findings)
    diagnosis = diagnose(case, incident.diagnosis)
    told = (*_links(causes, incidents), *_diagnosed(diagnosis, case))
    known = (*incident.findings, *causes)
    if diagnosis is not None and diagnosis.is_determined:
        reason = diagnosis.headline
    elif causes:
        reason = f"strongest cause: {_strongest(known).summary}"
    else:
        return told
    domain = _domain(diagnosis, known)
    return (*told, e.HandOver(domain, ROTATION_OF[domain], reason))


def find_causes(impact: Impact, findings: Iterable[Finding]) -> tuple[LinkedFinding, ...]:
    """Return the open findings that may be why ``impact`` is what it is, closest first.

    Of those equally close, what follows from another comes after it.
    """
    near = [f for f in findings if f.is_open and not is_drill(f) and _is_near(f, impact)]
    keys = {f.dedup_key for f in near}
    here = sorted(near, key=lambda f: not keys.isdisjoint(f.cause_dedup_keys))
    named = [f for f in here if f.subject.service == impact.service]
    gpus = {(f.subject.node, f.subject.gpu_uuid) for f in named if f.subject.gpu_uuid}
    related = (linked(f, _relation(f, impact.service, gpus)) for f in here)
    wanted = (
        cause
        for cause, finding in zip(related, here, strict=True)
        if cause.relation < Relation.NODE or not finding.subject.service
    )
    return tuple(sorted(wanted, key=lambda cause: (cause.relation, -cause.confidence)))


def _diagnosed(diagnosis: Diagnosis | None, case: Case) -> tuple[e.Command, ...]:
    return () if diagnosis is None else (e.Diagnose(diagnosis, case),)


def _domain(diagnosis: Diagnosis | None, causes: Iterable[LinkedFinding]) -> CauseDomain:
    """Return whose trouble it is: as diagnosed, or else as the strongest finding says."""
    named = None if diagnosis is None else diagnosis.domain
    return strongest_domain(causes) if named is None else named


def strongest_domain(causes: Iterable[LinkedFinding]) -> CauseDomain:
    """Return the domain of the strongest cause; capacity while none is known."""
    known = tuple(causes)
    return _strongest(known).domain if known else CauseDomain.CAPACITY


def _links(causes: Iterable[LinkedFinding], incidents: Sequence[Incident]) -> tuple[e.Command, ...]:
    owners = {
        finding.finding_id: incident.id
        for incident in incidents
        for finding in incident.findings
        if finding.relation is Relation.SUBJECT
    }
    return tuple(e.LinkFinding(cause, owners.get(cause.finding_id, "")) for cause in causes)


def _is_near(finding: Finding, impact: Impact) -> bool:
    return finding.subject.service == impact.service or finding.subject.node in impact.nodes


def _relation(finding: Finding, service: str, gpus: set[tuple[str, str]]) -> Relation:
    if finding.subject.service == service:
        return Relation.SERVICE
    if (finding.subject.node, finding.subject.gpu_uuid) in gpus:
        return Relation.GPU
    return Relation.NODE


def _strongest(causes: tuple[LinkedFinding, ...]) -> LinkedFinding:
    named = named_by_verdicts(causes)

    def strength_now(finding: LinkedFinding) -> tuple[bool, int, bool, int, float]:
        # Close before far, then open before cleared, so that nothing stray takes over.
        is_effect, relation, rank, unsure = strength(finding, named)
        return is_effect, relation, not finding.is_open, rank, unsure

    return min(causes, key=strength_now)
