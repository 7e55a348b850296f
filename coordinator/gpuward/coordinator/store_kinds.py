"""What people said about how loud kinds are: every word is kept, the newest of a kind counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select

from gpuward.coordinator.kind_classes import Override, Verb
from gpuward.coordinator.model import FindingClass
from gpuward.coordinator.store_schema import kind_override as table

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

HISTORY_LIMIT = 500


async def add(connection: AsyncConnection, override: Override) -> None:
    """Keep ``override``; it counts from now on."""
    row = {
        "kind": override.kind,
        "verb": override.verb.value,
        "told": None if override.told is None else override.told.value,
        "by": override.by,
        "reason": override.reason,
        "at_s": override.at_s,
    }
    await connection.execute(insert(table), row)


async def load(connection: AsyncConnection) -> dict[str, Override]:
    """Return what counts now, by kind; kinds that were reset are left out."""
    newest = select(func.max(table.c.id)).group_by(table.c.kind)
    query = select(table).where(table.c.id.in_(newest), table.c.told.is_not(None))
    rows = await connection.execute(query.order_by(table.c.kind))
    return {row.kind: _override(row) for row in rows}


async def load_history(connection: AsyncConnection) -> tuple[Override, ...]:
    """Return what was ever said, newest first."""
    query = select(table).order_by(table.c.id.desc()).limit(HISTORY_LIMIT)
    return tuple(_override(row) for row in await connection.execute(query))


def _override(row: Row[Any]) -> Override:
    told = None if row.told is None else FindingClass(row.told)
    return Override(row.kind, Verb(row.verb), told, row.by, row.reason, row.at_s)
