"""Which of the findings around an incident is its most probable cause.

Close comes before far, so that a stray finding on the node does not take over from a cause in the
service.  Of equally close ones, what explains comes before what is explained: a full GPU and a
failed allocation are how fragmentation shows.  That requests are slow, wait or fail is the trouble
itself and comes last; why, an agent's verdict says: where it is sure, what it blames comes first.
Before all of it comes what the diagnosis of a service blames, which has heard all its nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.coordinator.told_once import standing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.coordinator.model import Incident, LinkedFinding

SYMPTOMS = frozenset({"gpu.memory.saturation", "process.memory.oom"})
# How users, or requests of our own, feel it.
EFFECTS = frozenset(
    {
        "service.canary",
        "service.endpoint.failing",
        "service.errors",
        "service.latency.inter_token",
        "service.latency.objective",
        "service.latency.queue",
        "service.outage",
    }
)
VERDICT = "service.latency.cause"
# Agents name a cause from here on; below it they say that it is undetermined.
SURE = 0.8


def causes_of(incident: Incident) -> list[LinkedFinding]:
    """Return the findings of ``incident``, each trouble once, the most probable cause first."""
    return ranked(standing(incident.findings), blamed_in(incident))


def blamed_in(incident: Incident) -> tuple[str, ...]:
    """Return the keys of the findings that the diagnosis blames; empty while there is none."""
    diagnosis = incident.diagnosis
    return () if diagnosis is None else diagnosis.blames


def ranked(findings: Iterable[LinkedFinding], blamed: Iterable[str] = ()) -> list[LinkedFinding]:
    """Return ``findings``, the most probable cause first; equals stay in their order.

    ``blamed``: keys of those that a diagnosis blames.
    """
    known, first = list(findings), frozenset(blamed)
    named = named_by_verdicts(known)
    return sorted(known, key=lambda f: (f.dedup_key not in first, strength(f, named)))


def named_by_verdicts(findings: Iterable[LinkedFinding]) -> frozenset[str]:
    """Return the keys of the findings in which verdicts that are sure see the cause."""
    return frozenset(key for each in findings if is_sure_verdict(each) for key in each.follows)


def strength(finding: LinkedFinding, named: frozenset[str]) -> tuple[bool, int, int, float]:
    """Sort key of causes, the most probable first; ``named``: by verdicts."""
    is_unsure = finding.kind == VERDICT and not is_sure_verdict(finding)
    is_effect = finding.kind in EFFECTS or is_unsure
    return is_effect, finding.relation, _rank(finding, named), -finding.confidence


def is_sure_verdict(finding: LinkedFinding) -> bool:
    """Return whether an agent says why a service is slow, and is sure of it."""
    return finding.kind == VERDICT and finding.confidence >= SURE


def _rank(finding: LinkedFinding, named: frozenset[str]) -> int:
    """Return what was measured and blamed before the verdict, and symptoms last."""
    if finding.dedup_key in named:
        return 0
    if finding.kind == VERDICT:
        return 1
    return 3 if finding.kind in SYMPTOMS else 2
