"""Which of the findings around an incident is its most probable cause.

Close comes before far, so that a stray finding on the node does not take over from a cause in the
service.  Of equally close ones, what explains comes before what is explained: a full GPU and a
failed allocation are how fragmentation shows.  That requests are slow, wait or fail is the trouble
itself and comes last; why, an agent's verdict says, and where it is sure it comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.coordinator.model import LinkedFinding

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


def strength(finding: LinkedFinding) -> tuple[bool, int, int, float]:
    """Sort key of causes, the most probable first."""
    is_unsure = finding.kind == VERDICT and finding.confidence < SURE
    is_effect = finding.kind in EFFECTS or is_unsure
    return is_effect, finding.relation, _rank(finding), -finding.confidence


def _rank(finding: LinkedFinding) -> int:
    if finding.kind == VERDICT:
        return 0
    return 2 if finding.kind in SYMPTOMS else 1


def most_probable(findings: Iterable[LinkedFinding]) -> LinkedFinding | None:
    """Return the most probable cause; the first of equals; ``None`` without findings."""
    return min(findings, key=strength, default=None)
