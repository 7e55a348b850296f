"""A coordinator that cannot write is not ready, whatever it can read."""

from __future__ import annotations

import asyncio
import resource
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from gpuward.coordinator.readiness import Readiness


@pytest.fixture
def readiness(store, clock):
    return Readiness(store, clock)


async def test_ready_with_a_database_that_takes_a_write(readiness):
    assert "" == await readiness.trouble()


async def test_read_only_and_back(readiness, store, clock):
    """SQLite itself refuses: ``query_only`` is what a connection to such a database has."""
    pragma = {"query_only": 1}

    @event.listens_for(store._engine.sync_engine, "begin")
    def prepare(connection):
        connection.exec_driver_sql(f"PRAGMA query_only={pragma['query_only']}")

    expected = "the database cannot be written: attempt to write a readonly database"
    assert expected == await readiness.trouble()

    pragma["query_only"] = 0
    assert expected == await readiness.trouble(), "asked again within a second"
    await clock.advance(1)
    assert "" == await readiness.trouble()


async def test_full_and_back(readiness, store, clock):
    """The kernel lets this process write no file any further, as on a disk that is full."""
    assert "" == await readiness.trouble()
    await clock.advance(1)

    # The log of tests is a file too.
    with capture_logs() as lines, no_file_grows():
        trouble = await readiness.trouble()
        await store.ping()

    assert "the database cannot be written: disk I/O error" == trouble
    assert [("readiness.changed", trouble)] == [(it["event"], it["trouble"]) for it in lines]
    await clock.advance(1)
    assert "" == await readiness.trouble()


@contextmanager
def no_file_grows():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_many_who_ask_together_cost_one_write(readiness, store):
    writes = []

    @event.listens_for(store._engine.sync_engine, "before_cursor_execute")
    def seen(_connection, _cursor, statement, *_rest):
        writes.append(statement == "BEGIN IMMEDIATE")

    answers = await asyncio.gather(*(readiness.trouble() for _ in range(20)))

    assert ([""] * 20, 1) == (answers, sum(writes))
