"""A node's report as a value: everything that is open on it, and what happened since."""

from __future__ import annotations

from dataclasses import dataclass

# msgspec reads the annotations at run time.
from gpuward.coordinator.model import Finding, ServiceTotals  # noqa: TC001


@dataclass(frozen=True, slots=True)
class Report:
    """All that is open on a node, converted and checked."""

    node: str
    boot_id: str
    agent_instance: str
    seq: int
    at_s: float
    findings: tuple[Finding, ...] = ()
    # (spool seq, finding), oldest first.
    events: tuple[tuple[int, Finding], ...] = ()
    service_totals: tuple[ServiceTotals, ...] = ()


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """``report`` arrived at ``at_s`` in the node's session ``session``."""

    session: int
    report: Report
    at_s: float
