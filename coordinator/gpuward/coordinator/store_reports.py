"""What agents reported, in the database: nodes, findings, one-shot events, service counters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import bindparam, delete, func, select, true, update

from gpuward.coordinator.deadman import NodeLife
from gpuward.coordinator.model import Finding, ServiceTotals
from gpuward.coordinator.store_dialect import claim, execute_each, insert_new, upsert
from gpuward.coordinator.store_schema import (
    finding,
    node,
    service_sample,
    service_watch,
    spooled_event,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from gpuward.coordinator.report import Sight, SignOfLife

_finding = msgspec.json.Decoder(Finding)
_totals = msgspec.json.Decoder(ServiceTotals)

_hear = (
    update(node)
    .where(node.c.name == bindparam("known"), node.c.session == bindparam("its_session"))
    .values({c: bindparam(c) for c in ("boot_id", "agent_instance", "report_seq", "last_seen_s")})
)
_still_open = update(finding).where(
    finding.c.finding_id == bindparam("known_id"),
    finding.c.node == bindparam("known_node"),
    finding.c.is_open.is_(True),
)
_see = _still_open.values({c: bindparam(c) for c in ("last_seen_s", "times_seen")})
_refresh = _still_open.values({c: bindparam(c) for c in ("body", "last_seen_s", "times_seen")})


async def open_session(connection: AsyncConnection, name: str, now_s: float, **hello: str) -> int:
    """Begin a new session of node ``name`` and return its number; older ones are over.

    ``hello``: boot_id, agent_version, query_address.  A session counts as a sign of life and ends
    a drain.
    """
    fresh = {
        "name": name,
        "session": 0,
        "agent_instance": "",
        "report_seq": 0,
        "last_seen_s": now_s,
        **hello,
    }
    await connection.execute(insert_new(connection, node), fresh)
    await connection.execute(
        update(node)
        .where(node.c.name == name)
        .values(session=node.c.session + 1, last_seen_s=now_s, drain_until_s=None, **hello)
    )
    query = select(node.c.session).where(node.c.name == name)
    return int((await connection.execute(query)).scalar_one())


async def load_nodes(connection: AsyncConnection, names: Iterable[str]) -> dict[str, Row[Any]]:
    """Return the rows of these nodes by name, locked until commit."""
    # One order for all replicas: two that lock the same nodes never wait for each other.
    query = select(node).where(node.c.name.in_(names)).order_by(node.c.name)
    rows = await connection.execute(claim(connection, query, node, wait=True))
    return {row.name: row for row in rows}


async def update_node(connection: AsyncConnection, name: str, **values: Any) -> None:
    """Set columns of a node's row."""
    await connection.execute(update(node).where(node.c.name == name).values(**values))


async def hear_nodes(connection: AsyncConnection, heard: Iterable[SignOfLife]) -> None:
    """Note when nodes were heard, and in which report; a session that is over changes nothing."""
    rows = [
        {
            "known": sign.report.node,
            "its_session": sign.session,
            "boot_id": sign.report.boot_id,
            "agent_instance": sign.report.agent_instance,
            "report_seq": sign.report.seq,
            "last_seen_s": sign.at_s,
        }
        for sign in heard
    ]
    await execute_each(connection, _hear, rows)


async def load_query_address(connection: AsyncConnection, name: str) -> str:
    """Return where the agent of node ``name`` answers questions; empty when nobody knows."""
    query = select(node.c.query_address).where(node.c.name == name)
    return (await connection.execute(query)).scalar() or ""


async def load_lives(connection: AsyncConnection) -> tuple[NodeLife, ...]:
    """Return when every known node was last heard."""
    rows = await connection.execute(select(node.c.name, node.c.last_seen_s, node.c.drain_until_s))
    return tuple(NodeLife(row.name, row.last_seen_s, row.drain_until_s) for row in rows)


async def load_open_findings(
    connection: AsyncConnection, names: Iterable[str] | None = None
) -> tuple[Finding, ...]:
    """Return the open findings of these nodes, or of all."""
    query = select(finding).where(finding.c.is_open.is_(True))
    if names is not None:
        query = query.where(finding.c.node.in_(names))
    rows = await connection.execute(query.order_by(finding.c.finding_id))
    return tuple(map(_as_seen, rows))


async def load_findings(connection: AsyncConnection, ids: Sequence[str]) -> tuple[Finding, ...]:
    """Return the findings with these ids, in that order; unknown ones are left out."""
    rows = await connection.execute(select(finding).where(finding.c.finding_id.in_(ids)))
    found = {row.finding_id: _as_seen(row) for row in rows}
    return tuple(found[i] for i in ids if i in found)


def _as_seen(row: Row[Any]) -> Finding:
    value = _finding.decode(row.body)
    if row.last_seen_s in {None, value.last_seen_s} and row.times_seen in {None, value.count}:
        return value
    return replace(value, last_seen_s=row.last_seen_s, count=row.times_seen)


async def write_findings(connection: AsyncConnection, findings: Iterable[Finding]) -> None:
    """Insert or replace ``findings``."""
    rows = [
        {
            "finding_id": value.finding_id,
            "node": value.subject.node,
            "is_open": value.is_open,
            "body": msgspec.json.encode(value),
            "last_seen_s": value.last_seen_s,
            "times_seen": value.count,
        }
        for value in findings
    ]
    await execute_each(connection, upsert(connection, finding), rows)


async def refresh_findings(connection: AsyncConnection, findings: Iterable[Finding]) -> None:
    """Replace those of ``findings`` that are still open."""
    rows = [
        {
            "known_id": value.finding_id,
            "known_node": value.subject.node,
            "body": msgspec.json.encode(value),
            "last_seen_s": value.last_seen_s,
            "times_seen": value.count,
        }
        for value in findings
    ]
    await execute_each(connection, _refresh, rows)


async def see_findings(
    connection: AsyncConnection, sights: Iterable[tuple[str, str, Sight]]
) -> None:
    """Note of findings that are still open, by node and id, how they were last seen."""
    rows = [
        {
            "known_node": name,
            "known_id": finding_id,
            "last_seen_s": sight.last_seen_s,
            "times_seen": sight.times,
        }
        for name, finding_id, sight in sights
    ]
    await execute_each(connection, _see, rows)


async def note_event(
    connection: AsyncConnection, name: str, seq: int, finding_id: str, now_s: float
) -> bool:
    """Remember a one-shot event; false when it was taken in before."""
    row = {"node": name, "finding_id": finding_id, "seq": seq, "received_at_s": now_s}
    return (await connection.execute(insert_new(connection, spooled_event), row)).rowcount == 1


async def write_totals(connection: AsyncConnection, totals: Iterable[ServiceTotals]) -> None:
    """Keep one reading each of service counters; the same reading again changes nothing."""
    rows = [
        {
            "service": value.service,
            "instance": value.instance,
            "observed_at_s": value.observed_at_s,
            "received_at_s": value.received_at_s,
            "body": msgspec.json.encode(value),
        }
        for value in totals
    ]
    await execute_each(connection, insert_new(connection, service_sample), rows)


async def load_totals(
    connection: AsyncConnection, since_s: float, service: str | None = None
) -> tuple[ServiceTotals, ...]:
    """Return readings received after ``since_s``, and per instance the last one before it.

    Of ``service``, or of all; oldest first.
    """
    table = service_sample
    wanted = true() if service is None else table.c.service == service
    before = (
        select(
            table.c.service,
            table.c.instance,
            func.max(table.c.received_at_s).label("received_at_s"),
        )
        .where(wanted, table.c.received_at_s <= since_s)
        .group_by(table.c.service, table.c.instance)
        .subquery()
    )
    baseline = select(table.c.body).join(
        before,
        (table.c.service == before.c.service)
        & (table.c.instance == before.c.instance)
        & (table.c.received_at_s == before.c.received_at_s),
    )
    inside = select(table.c.body).where(wanted, table.c.received_at_s > since_s)
    bodies = [*(await connection.execute(baseline)).scalars()]
    bodies += (await connection.execute(inside)).scalars()
    return _by_time(bodies)


async def load_new_totals(connection: AsyncConnection, since_s: float) -> tuple[ServiceTotals, ...]:
    """Return the readings of all services received after ``since_s``, oldest first."""
    table = service_sample
    query = select(table.c.body).where(table.c.received_at_s > since_s)
    return _by_time((await connection.execute(query)).scalars())


def _by_time(bodies: Iterable[bytes]) -> tuple[ServiceTotals, ...]:
    totals = map(_totals.decode, bodies)
    return tuple(sorted(totals, key=lambda t: (t.received_at_s, t.observed_at_s)))


async def forget_totals(connection: AsyncConnection, before_s: float) -> None:
    """Drop readings received before ``before_s``."""
    await connection.execute(
        delete(service_sample).where(service_sample.c.received_at_s < before_s)
    )


@dataclass(frozen=True, slots=True)
class Watch:
    """What the judgement of a service remembers; see the table."""

    better_since_s: float | None = None
    counted_from_s: float | None = None


async def load_watches(connection: AsyncConnection) -> dict[str, Watch]:
    """Return what is remembered of all services."""
    rows = await connection.execute(select(service_watch))
    return {row.service: Watch(row.better_since_s, row.counted_from_s) for row in rows}


async def load_watch(connection: AsyncConnection, service: str) -> Watch:
    """Return what is remembered of ``service``."""
    query = select(service_watch).where(service_watch.c.service == service)
    row = (await connection.execute(query)).first()
    return Watch() if row is None else Watch(row.better_since_s, row.counted_from_s)


async def write_watch(connection: AsyncConnection, service: str, watch: Watch) -> None:
    """Remember ``watch``."""
    row = {
        "service": service,
        "better_since_s": watch.better_since_s,
        "counted_from_s": watch.counted_from_s,
    }
    await connection.execute(upsert(connection, service_watch), row)
