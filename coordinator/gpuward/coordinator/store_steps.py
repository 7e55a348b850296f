"""Escalation steps in the database: timers as rows.

A step is marked fired, and its pages are written, in the transaction that claims it, which also
holds the incident's row: an acknowledgement comes either wholly before or wholly after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select, update

from gpuward.coordinator.model import State, Step, Until
from gpuward.coordinator.store_dialect import claim, upsert
from gpuward.coordinator.store_schema import escalation_step as table
from gpuward.coordinator.store_schema import incident

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

# Steps claimed in one transaction, so that a storm holds the lock for milliseconds.
CLAIM_LIMIT = 50
# A step this late is waited for instead of skipped: a storm must not starve it.
STARVED_AFTER_S = 5.0


async def load(connection: AsyncConnection, incident_id: str) -> tuple[Step, ...]:
    """Return all steps of the incident, in the order they are due."""
    query = select(table).where(table.c.incident_id == incident_id)
    rows = await connection.execute(query.order_by(table.c.due_at_s, table.c.level))
    return tuple(_step(row) for row in rows)


async def write(connection: AsyncConnection, step: Step) -> None:
    """Insert or replace ``step``."""
    row = {
        "incident_id": step.incident_id,
        "level": step.level,
        "until": step.until.value,
        "due_at_s": step.due_at_s,
        "fired_at_s": step.fired_at_s,
        "cancelled_at_s": step.cancelled_at_s,
    }
    await connection.execute(upsert(connection, table), row)


async def is_any_due(connection: AsyncConnection, now_s: float) -> bool:
    """Whether ``claim_due`` would find one; takes no lock."""
    query = select(table.c.level).join(incident).where(_due(now_s)).limit(1)
    return (await connection.execute(query)).first() is not None


async def claim_due(connection: AsyncConnection, now_s: float) -> tuple[Step, ...]:
    """Return due steps, locked together with their incidents, oldest first."""
    starved = await _claim(connection, now_s - STARVED_AFTER_S, wait=True)
    due = await _claim(connection, now_s, wait=False)
    return tuple(dict.fromkeys((*starved, *due)))


async def mark_fired(connection: AsyncConnection, step: Step, now_s: float) -> bool:
    """Mark ``step`` as decided; false when it was already."""
    statement = (
        update(table)
        .where(table.c.incident_id == step.incident_id, table.c.level == step.level)
        .where(table.c.fired_at_s.is_(None))
        .values(fired_at_s=now_s)
    )
    return (await connection.execute(statement)).rowcount == 1


async def _claim(connection: AsyncConnection, due_s: float, *, wait: bool) -> tuple[Step, ...]:
    query = select(table).join(incident).where(_due(due_s))
    query = query.order_by(table.c.due_at_s).limit(CLAIM_LIMIT)
    rows = await connection.execute(claim(connection, query, table, incident, wait=wait))
    return tuple(_step(row) for row in rows)


def _due(now_s: float) -> ColumnElement[bool]:
    waiting = and_(
        table.c.due_at_s <= now_s, table.c.fired_at_s.is_(None), table.c.cancelled_at_s.is_(None)
    )
    acknowledged = incident.c.state.in_((State.ACKNOWLEDGED.value, State.MITIGATED.value))
    runs = or_(
        incident.c.state == State.OPEN.value,
        and_(acknowledged, table.c.until == Until.RESOLVED.value),
    )
    return and_(waiting, runs)


def _step(row: Row[Any]) -> Step:
    return Step(
        incident_id=row.incident_id,
        level=row.level,
        due_at_s=row.due_at_s,
        until=Until(row.until),
        fired_at_s=row.fired_at_s,
        cancelled_at_s=row.cancelled_at_s,
    )
