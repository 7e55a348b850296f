"""Which of the findings around an incident is its most probable cause.

Close comes before far, so that a stray finding on the node does not take over from a cause in the
service.  Of equally close ones, what explains comes before what is explained: a full GPU and a
failed allocation are how fragmentation shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.coordinator.model import LinkedFinding

SYMPTOMS = frozenset({"gpu.memory.saturation", "process.memory.oom"})


def strength(finding: LinkedFinding) -> tuple[int, bool, float]:
    """Sort key of causes, the most probable first."""
    return finding.relation, finding.kind in SYMPTOMS, -finding.confidence


def most_probable(findings: Iterable[LinkedFinding]) -> LinkedFinding | None:
    """Return the most probable cause; the first of equals; ``None`` without findings."""
    return min(findings, key=strength, default=None)
