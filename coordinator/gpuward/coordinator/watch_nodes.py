"""Watch for agents that should report and do not.

A silent node raises a finding of the coordinator's own; the node's next report, which does not
list it, clears it like any other.  All silent nodes are one incident, louder once the share of
silent agents makes the centre blind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.coordinator import deadman, filing, store_incidents, store_reports
from gpuward.coordinator import events as e
from gpuward.coordinator.correlate import NODE_OVERDUE
from gpuward.coordinator.model import CauseDomain, Finding, FindingClass, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.coordinator.deadman import NodeLife
    from gpuward.coordinator.store import Store, Transaction


async def judge_nodes(store: Store, *, listening_since_s: float, now_s: float) -> None:
    """Raise what is newly silent; nothing is written when nothing is."""
    async with store.reading() as connection:
        lives = await store_reports.load_lives(connection)
        silent = deadman.overdue(lives, listening_since_s=listening_since_s, now_s=now_s)
        known = await store_reports.load_open_findings(connection, silent)
    told = {f.subject.node for f in known if f.kind == NODE_OVERDUE}
    fresh = [_finding(life, now_s) for life in lives if life.name in silent - told]
    if not fresh:
        return
    async with store.writing() as tx:
        await store_reports.write_findings(tx.connection, fresh)
        await filing.file(tx, fresh, (), now_s)
        await _grade(tx, len(silent), len(lives), fresh, now_s)


async def _grade(
    tx: Transaction, silent: int, known: int, fresh: Iterable[Finding], now_s: float
) -> None:
    key = f"finding|{NODE_OVERDUE}"
    incident = await store_incidents.load_group(tx.connection, key)
    severity = deadman.severity(silent, known)
    if incident is None or not severity.worse_than(incident.severity):
        return
    reasons = (f"{silent} of {known} agents are silent", *(f.summary for f in fresh))
    await tx.tell(incident, [e.ChangeSeverity(severity, reasons)], now_s)


def _finding(life: NodeLife, now_s: float) -> Finding:
    silent_s = now_s - life.last_seen_s
    return Finding(
        finding_id=f"{life.name}/overdue-{int(life.last_seen_s)}",
        dedup_key=f"{life.name}|{NODE_OVERDUE}",
        kind=NODE_OVERDUE,
        subject=Subject(node=life.name),
        summary=f"node {life.name} has not reported for {silent_s:.0f} s",
        default_class=FindingClass.TICKET,
        since_s=life.last_seen_s,
        last_seen_s=now_s,
        domain=CauseDomain.NETWORK,
    )
