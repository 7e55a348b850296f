"""Incidents in the database: append-only events, and a projection of what they add up to.

The projection is written with the events, in the same transaction, and never by anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import insert, select, update

from gpuward.coordinator import incident as fold
from gpuward.coordinator.events import AnyEvent, Opened, TimelineEntry
from gpuward.coordinator.model import Incident
from gpuward.coordinator.store_dialect import claim, insert_new
from gpuward.coordinator.store_schema import incident as table
from gpuward.coordinator.store_schema import incident_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncConnection

SEARCHED_AT_ONCE = 500

_incident = msgspec.json.Decoder(Incident)
_event: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


async def load(
    connection: AsyncConnection, incident_id: str, *, for_update: bool = False
) -> Incident | None:
    """Return the incident, locked until commit where ``for_update``; ``None`` when unknown."""
    query = select(table.c.body).where(table.c.id == incident_id)
    if for_update:
        query = claim(connection, query, table, wait=True)
    body = (await connection.execute(query)).scalar()
    return None if body is None else _incident.decode(body)


async def load_open(connection: AsyncConnection) -> tuple[Incident, ...]:
    """Return all incidents that wait for resolution, oldest first."""
    query = select(table.c.body).where(table.c.open_group_key.is_not(None))
    rows = await connection.execute(query.order_by(table.c.opened_at_s, table.c.id))
    return tuple(_incident.decode(body) for body in rows.scalars())


async def load_group(connection: AsyncConnection, group_key: str) -> Incident | None:
    """Return the open incident of a group, locked until commit; ``None`` when there is none."""
    query = select(table.c.body).where(table.c.open_group_key == group_key)
    body = (await connection.execute(claim(connection, query, table, wait=True))).scalar()
    return None if body is None else _incident.decode(body)


async def load_resolved(connection: AsyncConnection, limit: int) -> tuple[Incident, ...]:
    """Return the newest ``limit`` resolved incidents, newest first."""
    query = select(table.c.body).where(table.c.open_group_key.is_(None))
    query = query.order_by(table.c.opened_at_s.desc(), table.c.id.desc()).limit(limit)
    rows = await connection.execute(query)
    return tuple(_incident.decode(body) for body in rows.scalars())


async def search(connection: AsyncConnection, words: str) -> AsyncIterator[Incident]:
    """Yield every incident that has ``words`` somewhere; all are looked through, some at once."""
    wanted, last = msgspec.json.encode(words)[1:-1], ""
    query = select(table.c.id, table.c.body).order_by(table.c.id).limit(SEARCHED_AT_ONCE)
    while rows := (await connection.execute(query.where(table.c.id > last))).all():
        for row in rows:
            if wanted in row.body:
                yield _incident.decode(row.body)
        last = rows[-1].id


async def load_timeline(connection: AsyncConnection, incident_id: str) -> tuple[TimelineEntry, ...]:
    """Return every event of the incident, oldest first."""
    query = select(incident_event.c.seq, incident_event.c.at_s, incident_event.c.body)
    query = query.where(incident_event.c.incident_id == incident_id)
    rows = await connection.execute(query.order_by(incident_event.c.seq))
    return tuple(TimelineEntry(row.seq, row.at_s, _event.decode(row.body)) for row in rows)


async def create(
    connection: AsyncConnection, incident_id: str, event: Opened, now_s: float
) -> Incident | None:
    """Open an incident; ``None`` when another replica has just opened one for the group."""
    incident = fold.opened(incident_id, event, now_s)
    row = {"id": incident_id, **_row(incident)}
    if (await connection.execute(insert_new(connection, table), row)).rowcount == 0:
        return None
    await _append_events(connection, incident_id, 0, [event], now_s)
    return incident


async def append(
    connection: AsyncConnection, incident: Incident, events: Sequence[AnyEvent], now_s: float
) -> Incident:
    """Write ``events`` and return the incident after them; the caller holds its lock."""
    if not events:
        return incident
    await _append_events(connection, incident.id, incident.version, events, now_s)
    after = incident
    for event in events:
        after = fold.apply(after, event, now_s)
    await connection.execute(update(table).where(table.c.id == incident.id).values(**_row(after)))
    return after


async def _append_events(
    connection: AsyncConnection,
    incident_id: str,
    version: int,
    events: Sequence[AnyEvent],
    now_s: float,
) -> None:
    rows = [
        {
            "incident_id": incident_id,
            "seq": version + 1 + place,
            "at_s": now_s,
            "body": msgspec.json.encode(event),
        }
        for place, event in enumerate(events)
    ]
    await connection.execute(insert(incident_event), rows)


def _row(incident: Incident) -> dict[str, Any]:
    return {
        "open_group_key": incident.group_key if incident.is_open else None,
        "state": incident.state.value,
        "severity": incident.severity.value,
        "opened_at_s": incident.opened_at_s,
        "version": incident.version,
        "body": msgspec.json.encode(incident),
    }
