"""Alerts in the database: written with the mark that the page was sent, gone once told the end.

Whoever takes an alert to tell it or to look at it moves its time on, which keeps the other replicas
off it; a replica that dies meanwhile only makes it late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, delete, select, update

from gpuward.coordinator.alerts import Alert
from gpuward.coordinator.model import State
from gpuward.coordinator.store_dialect import claim, insert_new
from gpuward.coordinator.store_schema import alert as table
from gpuward.coordinator.store_schema import incident as incident_table

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from gpuward.coordinator.model import Incident, Page

# Longer than any notifier may take: two replicas never tell one alert at the same time.
TELL_LEASE_S = 30.0
REFERENCE_LIMIT = 256
# What happens within this is told at once: a card is not redrawn for every line of a timeline.
TELL_EVERY_S = 5.0
LOOK_EVERY_S = 15.0


async def add(
    connection: AsyncConnection, page: Page, reference: str, *, can_look: bool, now_s: float
) -> None:
    """Write that the channel may hold ``page``; one that is known stays as it is."""
    row = {
        "page_id": page.id,
        "incident_id": page.incident_id,
        "channel": page.channel,
        "dedup_key": page.dedup_key,
        "reference": reference[:REFERENCE_LIMIT],
        "told": State.OPEN.value,
        "told_version": 0,
        "seen": State.OPEN.value,
        "tell_at_s": now_s + TELL_EVERY_S,
        "look_at_s": now_s + LOOK_EVERY_S if can_look else None,
        "attempts": 0,
    }
    await connection.execute(insert_new(connection, table), row)


async def load(connection: AsyncConnection, alert_id: int) -> Alert | None:
    """Return the alert; ``None`` once its provider was told the end."""
    row = (await connection.execute(select(table).where(table.c.id == alert_id))).first()
    return None if row is None else _alert(row)


async def is_any_to_tell(connection: AsyncConnection, now_s: float) -> bool:
    """Whether ``take_to_tell`` would find one; takes no lock."""
    query = select(table.c.id).join(incident_table).where(_to_tell(now_s)).limit(1)
    return (await connection.execute(query)).first() is not None


async def take_to_tell(connection: AsyncConnection, now_s: float, limit: int) -> tuple[Alert, ...]:
    """Take alerts whose provider knows less than we do, for ``TELL_LEASE_S``."""
    query = (
        select(table).join(incident_table).where(_to_tell(now_s)).order_by(table.c.id).limit(limit)
    )
    return await _take(connection, query, tell_at_s=now_s + TELL_LEASE_S)


async def is_any_to_look_at(connection: AsyncConnection, now_s: float) -> bool:
    """Whether ``take_to_look_at`` would find one; takes no lock."""
    query = select(table.c.id).where(table.c.look_at_s <= now_s).limit(1)
    return (await connection.execute(query)).first() is not None


async def take_to_look_at(
    connection: AsyncConnection, now_s: float, limit: int
) -> tuple[Alert, ...]:
    """Take alerts that are due for a look until the next, the one that waits longest first."""
    query = select(table).where(table.c.look_at_s <= now_s).order_by(table.c.look_at_s)
    return await _take(connection, query.limit(limit), look_at_s=now_s + LOOK_EVERY_S)


async def mark_told(
    connection: AsyncConnection, alert: Alert, incident: Incident, seen: State, now_s: float
) -> None:
    """Write that the provider knows ``incident``; nothing is left to do once it is resolved."""
    if not incident.is_open:
        await forget(connection, alert)
        return
    await _change(
        connection,
        alert,
        told=incident.state.value,
        told_version=incident.version,
        seen=seen.value,
        tell_at_s=now_s + TELL_EVERY_S,
        attempts=0,
    )


async def mark_untold(connection: AsyncConnection, alert: Alert, tell_at_s: float) -> None:
    """Try again at ``tell_at_s``."""
    await _change(connection, alert, tell_at_s=tell_at_s, attempts=alert.attempts + 1)


async def mark_seen(connection: AsyncConnection, alert: Alert, seen: State) -> None:
    """Write what was seen at the provider."""
    await _change(connection, alert, seen=seen.value)


async def look_later(connection: AsyncConnection, alert: Alert, look_at_s: float) -> None:
    """Look at it no sooner than the provider wants."""
    await _change(connection, alert, look_at_s=look_at_s)


async def forget(connection: AsyncConnection, alert: Alert) -> None:
    """Have nothing more to do with it."""
    await connection.execute(delete(table).where(table.c.id == alert.id))


async def _take(connection: AsyncConnection, query: Any, **values: float) -> tuple[Alert, ...]:
    rows = await connection.execute(claim(connection, query, table))
    alerts = tuple(_alert(row) for row in rows)
    if alerts:
        taken = table.c.id.in_([alert.id for alert in alerts])
        await connection.execute(update(table).where(taken).values(**values))
    return alerts


async def _change(connection: AsyncConnection, alert: Alert, **values: Any) -> None:
    await connection.execute(update(table).where(table.c.id == alert.id).values(**values))


def _to_tell(now_s: float) -> ColumnElement[bool]:
    return and_(table.c.told_version < incident_table.c.version, table.c.tell_at_s <= now_s)


def _alert(row: Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        page_id=row.page_id,
        incident_id=row.incident_id,
        channel=row.channel,
        dedup_key=row.dedup_key,
        reference=row.reference,
        told=State(row.told),
        told_version=row.told_version,
        seen=State(row.seen),
        attempts=row.attempts,
    )
