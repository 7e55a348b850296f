"""Everything that differs between SQLite and PostgreSQL, and nothing else.

SQLite takes one writer: a write transaction begins with BEGIN IMMEDIATE, so that it never fails
half-way for a lock, and ``synchronous=FULL`` makes a commit survive a power cut.  PostgreSQL takes
many: rows are locked as they are claimed, and those another replica holds are skipped.
"""

from __future__ import annotations

import sqlite3
from functools import cache, lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Dialect, Select, Table
    from sqlalchemy.dialects.postgresql import Insert as PgInsert
    from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import UpdateBase

# How long a SQLite writer waits for another process's transaction.
BUSY_TIMEOUT_S = 10.0
# What came before a flush is in the database after it, except for what another writer holds: on
# SQLite a transaction under way, on PostgreSQL a replica that flushes in its own time.
LATE_S = {"sqlite": 1.0, "postgresql": 15.0}


def create_engine(url: str) -> AsyncEngine:
    """Return an engine for ``url``; nothing is opened yet.

    Raises ``sqlalchemy.exc.ArgumentError`` for what is no URL.
    """
    if not url.startswith("sqlite"):
        return create_async_engine(url, pool_pre_ping=True)
    engine = create_async_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def probe(engine: AsyncEngine) -> None:
    """Raise ``OSError`` where a SQLite file cannot be opened.

    Asked here and at once: aiosqlite opens in a thread, which outlives the loop when that fails and
    then writes a traceback.
    """
    path = engine.url.database
    if engine.dialect.name != "sqlite" or not path or path == ":memory:":
        return
    try:
        sqlite3.connect(path).close()
    except sqlite3.OperationalError as error:
        raise OSError(str(error)) from error


def late_s(connection: AsyncConnection) -> float:
    """Return how long after it came a reading may be written."""
    return LATE_S[connection.dialect.name]


async def begin(connection: AsyncConnection, *, write: bool) -> None:
    """Start a transaction: one view of the data, and no other writer where ``write``."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def insert_new(connection: AsyncConnection, table: Table) -> SqliteInsert | PgInsert:
    """Return an insert that leaves out rows whose key exists."""
    return _insert_new(connection.dialect.name, table)


def upsert(connection: AsyncConnection, table: Table) -> SqliteInsert | PgInsert:
    """Return an insert of whole rows that replace those with the same primary key."""
    return _upsert(connection.dialect.name, table)


def claim(
    connection: AsyncConnection, select: Select[Any], *tables: Table, wait: bool = False
) -> Select[Any]:
    """Return ``select`` with the rows of ``tables`` locked; rows held by others are left out.

    ``wait``: stand in line for them instead.  SQLite's one writer needs no row locks.
    """
    if connection.dialect.name == "sqlite":
        return select
    return select.with_for_update(of=tables, skip_locked=not wait)


async def execute_each(
    connection: AsyncConnection, statement: UpdateBase, rows: Sequence[Mapping[str, object]]
) -> None:
    """Execute ``statement`` with each of ``rows``, which all have the same keys.

    SQLAlchemy writes the statement, and the driver is given the values as they are: what is known
    of a fleet changes by thousands of rows at a time, and to look at each value costs as much as to
    write it.  For text, numbers, booleans and bytes only.
    """
    if rows:
        text, order = _compiled(connection.dialect, statement, tuple(rows[0]))
        values = rows if order is None else list(map(itemgetter(*order), rows))
        await connection.exec_driver_sql(text, values)


@lru_cache
def _compiled(
    dialect: Dialect, statement: UpdateBase, keys: tuple[str, ...]
) -> tuple[str, Sequence[str] | None]:
    """Return the driver's text, and the order of its parameters where they have no names."""
    compiled = statement.compile(dialect=dialect, column_keys=keys)
    return str(compiled), compiled.positiontup


@cache
def _insert_new(dialect: str, table: Table) -> SqliteInsert | PgInsert:
    return _insert(dialect, table).on_conflict_do_nothing()


@cache
def _upsert(dialect: str, table: Table) -> SqliteInsert | PgInsert:
    statement = _insert(dialect, table)
    keys = [column.name for column in table.primary_key]
    changes = {c.name: statement.excluded[c.name] for c in table.c if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changes)


def _insert(dialect: str, table: Table) -> SqliteInsert | PgInsert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions of its own: ours begin with IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
