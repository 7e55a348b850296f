"""File reports of many nodes in one transaction, from their findings to incidents and their timers.

The same report twice, or an older one late, changes nothing; a session that the node has replaced
may not write any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from gpuward.coordinator import correlate, store_incidents, store_reports

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from sqlalchemy import Row

    from gpuward.coordinator.events import Command
    from gpuward.coordinator.heard import Pending
    from gpuward.coordinator.model import Finding, Incident
    from gpuward.coordinator.report import Report, SignOfLife
    from gpuward.coordinator.store import Transaction


@dataclass(frozen=True, slots=True)
class Stored:
    """Durable; ``event_seq`` is the newest spooled event of the report, 0 for none."""

    event_seq: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """It, or a newer one, was stored before: it says nothing of what is stored now."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer session of this node exists: nothing was stored."""


def stored(report: Report) -> Stored:
    """Return the answer to a report of which everything is durable."""
    return Stored(max((seq for seq, _ in report.events), default=0))


async def file_reports(
    tx: Transaction, arrivals: Sequence[Pending]
) -> tuple[Stored | Repeated | Superseded, ...]:
    """File ``arrivals``, at most one of each session; return the answers in the same order."""
    nodes = await store_reports.load_nodes(tx.connection, [a.life.report.node for a in arrivals])
    answers = tuple(_answer(nodes.get(a.life.report.node), a.life) for a in arrivals)
    fresh = [a for a, it in zip(arrivals, answers, strict=True) if isinstance(it, Stored)]
    await store_reports.hear_nodes(tx.connection, [a.life for a in fresh])
    await store_reports.write_totals(tx.connection, chain.from_iterable(a.totals for a in fresh))
    await _file_findings(tx, [a.life for a in fresh])
    return answers


def _answer(node: Row[Any] | None, life: SignOfLife) -> Stored | Repeated | Superseded:
    if node is None or node.session != life.session:
        return Superseded()
    if node.agent_instance == life.report.agent_instance and life.report.seq <= node.report_seq:
        return Repeated()
    return stored(life.report)


async def _file_findings(tx: Transaction, lives: Sequence[SignOfLife]) -> None:
    known = await store_reports.load_open_findings(tx.connection, [i.report.node for i in lives])
    to_write: list[Finding] = []
    to_place: list[Finding] = []
    cleared: list[Finding] = []
    for life in lives:
        node = life.report.node
        delta = correlate.compare((f for f in known if f.subject.node == node), life.report)
        happened = await _new_events(tx, life)
        to_write += (*delta.raised, *delta.updated, *delta.cleared, *happened)
        to_place += (*delta.raised, *delta.louder, *happened)
        cleared += delta.cleared
    await store_reports.write_findings(tx.connection, to_write)
    await file(tx, to_place, cleared, max((life.at_s for life in lives), default=0.0))


async def file(
    tx: Transaction, to_place: Iterable[Finding], cleared: Iterable[Finding], now_s: float
) -> None:
    """Put findings where they belong and tell incidents what has cleared."""
    to_place = [f for f in to_place if f.default_class in correlate.SEVERITY_OF]
    cleared = tuple(cleared)
    if not to_place and not cleared:
        return
    incidents = {i.id: i for i in await store_incidents.load_open(tx.connection)}
    told: dict[str, list[Command]] = {}
    for finding in to_place:
        match correlate.place(finding, tuple(incidents.values())):
            case correlate.Open(event, then):
                opened = await tx.open(event, then, now_s)
                if opened is not None:
                    incidents[opened.id] = opened
            case correlate.Tell(incident, commands):
                told.setdefault(incident.id, []).extend(commands)
    await _tell(tx, incidents, told, now_s)
    told = {}
    for finding in cleared:
        for tell in correlate.clear(finding, tuple(incidents.values())):
            told.setdefault(tell.incident.id, []).extend(tell.commands)
    await _tell(tx, incidents, told, now_s)


async def _tell(
    tx: Transaction,
    incidents: dict[str, Incident],
    told: Mapping[str, Sequence[Command]],
    now_s: float,
) -> None:
    """Tell each incident once: a thousand silent nodes are one change of one row."""
    for incident_id, commands in told.items():
        incidents[incident_id] = await tx.tell(incidents[incident_id], commands, now_s)


async def _new_events(tx: Transaction, life: SignOfLife) -> tuple[Finding, ...]:
    """Return the one-shot findings not seen before; they are over as they come."""
    return tuple(
        [
            finding if not finding.is_open else replace(finding, cleared_at_s=finding.last_seen_s)
            for seq, finding in life.report.events
            if await store_reports.note_event(
                tx.connection, life.report.node, seq, finding.finding_id, life.at_s
            )
        ]
    )
