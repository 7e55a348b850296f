"""Pages in the database: written with the decision, leased, sent, marked.

A replica that dies between sending and marking leaves a lease that runs out, and the page is sent
again with the same dedup key: at least once, and harmless twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select, update

from gpuward.coordinator.model import Page, Until
from gpuward.coordinator.store_dialect import claim, insert_new
from gpuward.coordinator.store_schema import outbox as table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

# Longer than any notifier may take: two replicas never send one page at the same time.
LEASE_S = 30.0
ERROR_LIMIT = 512


async def add(connection: AsyncConnection, pages: Sequence[Page]) -> None:
    """Write ``pages``; one that exists for its step, target and channel stays as it is."""
    rows = [
        {
            "incident_id": page.incident_id,
            "level": page.level,
            "target": page.target,
            "channel": page.channel,
            "dedup_key": page.dedup_key,
            "until": page.until.value,
            "created_at_s": page.created_at_s,
            "due_at_s": page.created_at_s,
            "attempts": 0,
            "last_error": "",
        }
        for page in pages
    ]
    if rows:
        await connection.execute(insert_new(connection, table), rows)


async def load(connection: AsyncConnection, incident_id: str) -> tuple[Page, ...]:
    """Return all pages of the incident, oldest first."""
    query = select(table).where(table.c.incident_id == incident_id).order_by(table.c.id)
    return tuple(_page(row) for row in await connection.execute(query))


async def is_any_due(connection: AsyncConnection, now_s: float) -> bool:
    """Whether ``lease`` would find one; takes no lock."""
    query = select(table.c.id).where(_due(now_s)).limit(1)
    return (await connection.execute(query)).first() is not None


async def lease(connection: AsyncConnection, now_s: float, limit: int) -> tuple[Page, ...]:
    """Take due pages for ``LEASE_S``, oldest first, counting one attempt each.

    The values returned are those before the attempt.
    """
    query = select(table).where(_due(now_s)).order_by(table.c.id).limit(limit)
    pages = tuple(_page(row) for row in await connection.execute(claim(connection, query, table)))
    if pages:
        await connection.execute(
            update(table)
            .where(table.c.id.in_([page.id for page in pages]))
            .values(lease_until_s=now_s + LEASE_S, attempts=table.c.attempts + 1)
        )
    return pages


async def release_all(connection: AsyncConnection) -> None:
    """End every lease; only for the one process that can hold any."""
    await connection.execute(update(table).values(lease_until_s=None))


async def mark_retry(connection: AsyncConnection, page: Page, due_at_s: float, error: str) -> None:
    """Give the lease back; the page is due again at ``due_at_s``."""
    await _mark(
        connection, page, due_at_s=due_at_s, lease_until_s=None, last_error=error[:ERROR_LIMIT]
    )


async def mark_ended(connection: AsyncConnection, page: Page, now_s: float, unsent: str) -> bool:
    """End the page: sent, or given up for the reason ``unsent``; false when it had ended before."""
    ended = {"abandoned_at_s": now_s} if unsent else {"sent_at_s": now_s}
    return await _mark(
        connection, page, lease_until_s=None, last_error=unsent[:ERROR_LIMIT], **ended
    )


async def _mark(connection: AsyncConnection, page: Page, **values: Any) -> bool:
    statement = (
        update(table)
        .where(table.c.id == page.id, table.c.sent_at_s.is_(None), table.c.abandoned_at_s.is_(None))
        .values(**values)
    )
    return (await connection.execute(statement)).rowcount == 1


def _due(now_s: float) -> ColumnElement[bool]:
    return and_(
        table.c.sent_at_s.is_(None),
        table.c.abandoned_at_s.is_(None),
        table.c.due_at_s <= now_s,
        or_(table.c.lease_until_s.is_(None), table.c.lease_until_s <= now_s),
    )


def _page(row: Row[Any]) -> Page:
    return Page(
        id=row.id,
        incident_id=row.incident_id,
        level=row.level,
        target=row.target,
        channel=row.channel,
        dedup_key=row.dedup_key,
        until=Until(row.until),
        created_at_s=row.created_at_s,
        attempts=row.attempts,
        due_at_s=row.due_at_s,
        sent_at_s=row.sent_at_s,
        abandoned_at_s=row.abandoned_at_s,
        last_error=row.last_error,
    )
