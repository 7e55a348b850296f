"""A node's report as a value: everything that is open on it, and what happened since."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

# msgspec reads the annotations at run time.
from gpuward.coordinator.model import Finding, ServiceTotals  # noqa: TC001


class Sight(NamedTuple):
    """When a finding was last seen, and how often: of most findings all that is new."""

    last_seen_s: float
    times: int


@dataclass(frozen=True, slots=True)
class Report:
    """All that is open on a node, converted and checked.

    ``findings`` are as they were when they last said something new; ``sights`` tells by id how
    those of them that have been seen again were last seen.
    """

    node: str
    boot_id: str
    agent_instance: str
    seq: int
    at_s: float
    findings: tuple[Finding, ...] = ()
    # (spool seq, finding), oldest first.
    events: tuple[tuple[int, Finding], ...] = ()
    service_totals: tuple[ServiceTotals, ...] = ()
    sights: dict[str, Sight] = field(default_factory=dict)

    def seen(self, finding: Finding) -> Finding:
        """Return ``finding``, which is one of this report, as it was last seen."""
        sight = self.sights.get(finding.finding_id)
        if sight is None or sight == (finding.last_seen_s, finding.count):
            return finding
        return replace(finding, last_seen_s=sight.last_seen_s, count=sight.times)

    def as_seen(self) -> Report:
        """Return this report with its findings as they were last seen."""
        return replace(self, findings=tuple(map(self.seen, self.findings)))


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """``report`` arrived at ``at_s`` in the node's session ``session``."""

    session: int
    report: Report
    at_s: float
