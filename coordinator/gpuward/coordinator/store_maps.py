"""Memory maps of incidents in the database: asked for, leased, answered.

A wish is a row that is due.  One replica leases all wishes for a process at once, so that a process
is asked once for all incidents that it is part of; a lease of a replica that dies runs out, and the
process is asked again.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import and_, func, select, update

from gpuward.coordinator.map_request import (
    NOT_AGAIN_WITHIN_S,
    MappedProcess,
    MapRequest,
)
from gpuward.coordinator.store_dialect import claim, insert_new
from gpuward.coordinator.store_schema import incident
from gpuward.coordinator.store_schema import memory_map as table
from gpuward.memory_map.model import MemoryMap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

# Longer than asking an agent may take.
LEASE_S = 15.0
REFUSAL_LIMIT = 512
CLAIM_LIMIT = 50

_OPEN = select(incident.c.id).where(incident.c.open_group_key.is_not(None))
_map = msgspec.msgpack.Decoder(MemoryMap)


@dataclass(frozen=True, slots=True)
class Asked:
    """The process will be asked, or is being asked already."""


@dataclass(frozen=True, slots=True)
class TooSoon:
    """The process was asked a moment ago."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Unknown:
    """The incident is over, or it has no such process."""


async def load(connection: AsyncConnection, incident_id: str) -> tuple[MapRequest, ...]:
    """Return all wishes of the incident, oldest first; of a process, the person's last."""
    query = select(table).where(table.c.incident_id == incident_id).order_by(table.c.id)
    return tuple(_request(row) for row in await connection.execute(query))


async def known(
    connection: AsyncConnection, incident_ids: Iterable[str]
) -> dict[str, frozenset[str]]:
    """Return by incident the ids of the processes of which a map was ever wanted."""
    query = select(table.c.incident_id, table.c.process_id)
    rows = await connection.execute(query.where(table.c.incident_id.in_(incident_ids)))
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.incident_id, set()).add(row.process_id)
    return {incident_id: frozenset(ids) for incident_id, ids in found.items()}


async def add(
    connection: AsyncConnection,
    incident_id: str,
    process: MappedProcess,
    now_s: float,
    *,
    on_request: bool = False,
) -> bool:
    """Ask for a map of ``process``; false when there is such a wish already."""
    row = {
        "incident_id": incident_id,
        "process_id": process.id,
        "node": process.node,
        "gpu_uuid": process.gpu_uuid,
        "process_key": process.process_key,
        "pid": process.pid,
        "on_request": on_request,
        "due_at_s": now_s,
        "attempts": 0,
        "refusal": "",
    }
    return (await connection.execute(insert_new(connection, table), row)).rowcount == 1


async def ask_again(
    connection: AsyncConnection, incident_id: str, process_id: str, now_s: float
) -> Asked | TooSoon | Unknown:
    """Ask for a fresh map of a process of an open incident, as a person wants it."""
    known_here = table.c.incident_id == incident_id, table.c.process_id == process_id
    query = select(table).join(incident).where(*known_here, incident.c.open_group_key.is_not(None))
    row = (await connection.execute(query.limit(1))).first()
    if row is None:
        return Unknown()
    waiting = table.c.due_at_s.is_not(None)
    if (await connection.execute(select(table.c.id).where(*known_here, waiting).limit(1))).first():
        return Asked()
    query_last = select(func.max(table.c.asked_at_s)).where(table.c.process_id == process_id)
    last_s = (await connection.execute(query_last)).scalar()
    if last_s is not None and now_s - last_s < NOT_AGAIN_WITHIN_S:
        return TooSoon(last_s + NOT_AGAIN_WITHIN_S - now_s)
    await add(connection, incident_id, _request(row).process, now_s, on_request=True)
    statement = update(table).where(*known_here, table.c.on_request.is_(True))
    await connection.execute(statement.values(due_at_s=now_s, attempts=0, refusal=""))
    return Asked()


async def recent(
    connection: AsyncConnection, process: MappedProcess, now_s: float
) -> MemoryMap | None:
    """Return a map of the process that is as new as one can be."""
    query = select(table.c.body).where(
        table.c.process_id == process.id,
        table.c.asked_at_s > now_s - NOT_AGAIN_WITHIN_S,
        table.c.due_at_s.is_(None),
        table.c.body.is_not(None),
    )
    body = (await connection.execute(query.limit(1))).scalar()
    return None if body is None else unpacked(body)


async def is_any_due(connection: AsyncConnection, now_s: float) -> bool:
    """Whether ``lease`` would find one; takes no lock."""
    query = select(table.c.id).join(incident).where(_due(now_s)).limit(1)
    return (await connection.execute(query)).first() is not None


async def lease(
    connection: AsyncConnection, now_s: float, limit: int
) -> tuple[tuple[MappedProcess, int], ...]:
    """Take up to ``limit`` processes for ``LEASE_S``, with how often each was asked before."""
    query = select(table).join(incident).where(_due(now_s)).order_by(table.c.due_at_s, table.c.id)
    rows = await connection.execute(claim(connection, query.limit(CLAIM_LIMIT), table))
    found = {row.process_id: _request(row) for row in rows}
    chosen = dict(list(found.items())[:limit])
    if chosen:
        await connection.execute(
            update(table)
            .where(table.c.process_id.in_(chosen), table.c.due_at_s.is_not(None))
            .where(table.c.incident_id.in_(_OPEN))
            .values(lease_until_s=now_s + LEASE_S, asked_at_s=now_s, attempts=table.c.attempts + 1)
        )
    return tuple((request.process, request.attempts) for request in chosen.values())


async def release_all(connection: AsyncConnection) -> None:
    """End every lease; only for the one process that can hold any."""
    await connection.execute(update(table).values(lease_until_s=None))


async def mark_later(
    connection: AsyncConnection, process: MappedProcess, due_at_s: float, reason: str
) -> None:
    """Give the lease back; the process is due again at ``due_at_s``."""
    values = {"due_at_s": due_at_s, "refusal": reason[:REFUSAL_LIMIT]}
    await connection.execute(_leased(process).values(lease_until_s=None, **values))


async def mark_refused(connection: AsyncConnection, process: MappedProcess, reason: str) -> None:
    """End the wishes for the process without a map."""
    values = {"due_at_s": None, "refusal": reason[:REFUSAL_LIMIT]}
    await connection.execute(_leased(process).values(lease_until_s=None, **values))


async def mark_taken(
    connection: AsyncConnection, process: MappedProcess, memory_map: MemoryMap
) -> dict[str, bool]:
    """Keep the map for all that wait for it.

    Return the incidents, and whether a person had asked there.
    """
    statement = (
        update(table)
        .where(table.c.process_id == process.id, table.c.due_at_s.is_not(None))
        .where(table.c.incident_id.in_(_OPEN))
        .values(lease_until_s=None, due_at_s=None, refusal="", body=packed(memory_map))
    )
    rows = await connection.execute(statement.returning(table.c.incident_id, table.c.on_request))
    return {row.incident_id: row.on_request for row in rows}


def packed(memory_map: MemoryMap) -> bytes:
    """Return the map in few bytes: some 10 for a block."""
    return zlib.compress(msgspec.msgpack.encode(memory_map))


def unpacked(body: bytes) -> MemoryMap:
    """Return what ``packed`` was given."""
    return _map.decode(zlib.decompress(body))


def _leased(process: MappedProcess) -> Any:
    return update(table).where(
        table.c.process_id == process.id,
        table.c.lease_until_s.is_not(None),
        table.c.due_at_s.is_not(None),
    )


def _due(now_s: float) -> ColumnElement[bool]:
    other = table.alias()
    in_flight = select(other.c.process_id).where(other.c.lease_until_s > now_s)
    return and_(
        table.c.due_at_s <= now_s,
        table.c.process_id.not_in(in_flight),
        incident.c.open_group_key.is_not(None),
    )


def _request(row: Row[Any]) -> MapRequest:
    return MapRequest(
        id=row.id,
        incident_id=row.incident_id,
        process=MappedProcess(row.node, row.gpu_uuid, row.process_key, row.pid),
        on_request=row.on_request,
        due_at_s=row.due_at_s,
        asked_at_s=row.asked_at_s,
        attempts=row.attempts,
        refusal=row.refusal,
        body=row.body,
    )
