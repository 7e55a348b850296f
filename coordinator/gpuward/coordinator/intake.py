"""Take in a node's report: one transaction, from its findings to incidents and their timers.

The same report twice, or an older one late, changes nothing; a session that the node has replaced
may not write any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuward.coordinator import correlate, store_incidents, store_reports

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.coordinator.model import Finding, Incident
    from gpuward.coordinator.report import Report
    from gpuward.coordinator.store import Store, Transaction


@dataclass(frozen=True, slots=True)
class Stored:
    """Durable; ``event_seq`` is the newest spooled event of the report, 0 for none."""

    event_seq: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer session of this node exists: nothing was stored."""


async def take(store: Store, session: int, report: Report, now_s: float) -> Stored | Superseded:
    """Store ``report`` with everything that follows from it."""
    async with store.writing() as tx:
        node = await store_reports.load_node(tx.connection, report.node)
        if node is None or node.session != session:
            return Superseded()
        same_agent = node.agent_instance == report.agent_instance
        if not (same_agent and report.seq <= node.report_seq):
            await _take_new(tx, report, now_s)
    return Stored(max((seq for seq, _ in report.events), default=0))


async def _take_new(tx: Transaction, report: Report, now_s: float) -> None:
    await store_reports.update_node(
        tx.connection,
        report.node,
        boot_id=report.boot_id,
        agent_instance=report.agent_instance,
        report_seq=report.seq,
        last_seen_s=now_s,
    )
    await store_reports.write_totals(tx.connection, report.service_totals)
    known = await store_reports.load_open_findings(tx.connection, report.node)
    delta = correlate.compare(known, report)
    happened = await _new_events(tx, report, now_s)
    changed = (*delta.raised, *delta.updated, *delta.cleared, *happened)
    await store_reports.write_findings(tx.connection, changed)
    await file(tx, (*delta.raised, *delta.louder, *happened), delta.cleared, now_s)


async def file(
    tx: Transaction, to_place: Iterable[Finding], cleared: Iterable[Finding], now_s: float
) -> None:
    """Put findings where they belong and tell incidents what has cleared."""
    to_place, cleared = tuple(to_place), tuple(cleared)
    if not to_place and not cleared:
        return
    incidents = {i.id: i for i in await store_incidents.load_open(tx.connection)}
    for finding in to_place:
        found = await _carry_out(tx, correlate.place(finding, tuple(incidents.values())), now_s)
        if found is not None:
            incidents[found.id] = found
    for finding in cleared:
        for told in correlate.clear(finding, tuple(incidents.values())):
            incidents[told.incident.id] = await tx.tell(told.incident, told.commands, now_s)


async def _carry_out(
    tx: Transaction, placed: correlate.Open | correlate.Tell | None, now_s: float
) -> Incident | None:
    match placed:
        case correlate.Open(event, then):
            return await tx.open(event, then, now_s)
        case correlate.Tell(incident, commands):
            return await tx.tell(incident, commands, now_s)
        case None:
            return None


async def _new_events(tx: Transaction, report: Report, now_s: float) -> tuple[Finding, ...]:
    """Return the one-shot findings not seen before; they are over as they come."""
    return tuple(
        [
            finding if not finding.is_open else replace(finding, cleared_at_s=finding.last_seen_s)
            for seq, finding in report.events
            if await store_reports.note_event(
                tx.connection, report.node, seq, finding.finding_id, now_s
            )
        ]
    )
