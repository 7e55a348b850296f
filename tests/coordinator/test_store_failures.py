"""What the log says while the database fails."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from structlog.testing import capture_logs

from gpuward.coordinator.loops import Loop, repeat
from gpuward.coordinator.store_failures import StoreFailures, reason_of


def failure(reason):
    return OperationalError("UPDATE node", {}, OSError(reason))


def said(failures, *times):
    with capture_logs() as lines:
        for at_s in times:
            failures.note(failure("disk full"), at_s)
    return [(line["work"], line["reason"], line["unsaid"]) for line in lines]


def test_at_once_and_then_once_a_minute_with_how_many_were_not_said():
    failures = StoreFailures("watch")

    assert [("watch", "disk full", 0)] == said(failures, 100.0, 102.0, 159.9)
    assert [("watch", "disk full", 2)] == said(failures, 160.0, 162.0)


def test_another_reason_is_said_at_once():
    failures = StoreFailures("watch")
    said(failures, 100.0)

    with capture_logs() as lines:
        failures.note(failure("read-only"), 101.0)

    assert ["read-only"] == [line["reason"] for line in lines]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(failure("disk full\nline two"), "disk full", id="what the driver says"),
        pytest.param(SQLAlchemyError("no driver\nmore"), "no driver", id="no driver has spoken"),
    ],
)
def test_the_reason_is_one_line_without_the_statement(error, reason):
    assert reason == reason_of(error)


async def test_a_loop_that_fails_for_two_minutes_says_so_three_times(clock):
    async def work(_):
        raise failure("disk full")

    with capture_logs() as lines:
        task = asyncio.create_task(repeat(Loop("watch", 5.0, work), clock))
        for _ in range(60):
            await clock.advance(2.0)
        task.cancel()

    assert [0, 29, 29] == [line["unsaid"] for line in lines if line["event"] == "store.failed"]
