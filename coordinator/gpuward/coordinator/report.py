"""A node's report as a value: everything that is open on it, and what happened since.

Structs out of the garbage collector's sight: tens of thousands of them are alive, each replaced
every few seconds, and a value that is only ever made of older values is never part of a circle.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

# msgspec reads the annotations at run time.
from gpuward.coordinator.model import Finding, ServiceTotals  # noqa: TC001


class Sight(msgspec.Struct, frozen=True, gc=False):
    """When a finding was last seen, and how often: of most findings all that is new."""

    last_seen_s: float
    times: int


class Report(msgspec.Struct, frozen=True, gc=False):
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
    sights: dict[str, Sight] = {}

    def seen(self, finding: Finding) -> Finding:
        """Return ``finding``, which is one of this report, as it was last seen."""
        sight = self.sights.get(finding.finding_id)
        if sight is None or sight == Sight(finding.last_seen_s, finding.count):
            return finding
        return replace(finding, last_seen_s=sight.last_seen_s, count=sight.times)

    def as_seen(self) -> Report:
        """Return this report with its findings as they were last seen."""
        return msgspec.structs.replace(self, findings=tuple(map(self.seen, self.findings)))


class SignOfLife(msgspec.Struct, frozen=True, gc=False):
    """``report`` arrived at ``at_s`` in the node's session ``session``."""

    session: int
    report: Report
    at_s: float
