"""From the judge to the disk: in batches, once, and never waiting for a dead disk."""

from __future__ import annotations

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from gpuward.agent import event_keeper
from gpuward.agent.disk_thread import DiskBusyError
from gpuward.agent.event_keeper import EventKeeper
from gpuward.agent.model import Batch, Event
from gpuward.agent.spool import Spool
from gpuward.agent.spool_file import Item
from gpuward.v1 import finding_pb2

WALL_S = 1_800_000_000.0


@pytest.fixture
async def spool(tmp_path):
    spool = Spool(tmp_path / "spool.db", wall_s=WALL_S)
    yield spool
    await spool.close()


@pytest.fixture
def stuck(spool):
    """Make the disk hang until the event is set."""
    release = threading.Event()

    def hang():
        release.wait(200)
        return True

    spool._thread._calls.put(hang)
    yield release
    release.set()


def happens(judge, *identities, code=79):
    events = (Event("gpu.xid", 1_000.0, i, code=code, gpu="GPU-1") for i in identities)
    judge.take("kmsg", Batch(events=tuple(events)))


async def keep_until(keeper, condition):
    async with asyncio.timeout(200), asyncio.TaskGroup() as group:
        keeping = group.create_task(keeper.run())
        while not condition():  # noqa: ASYNC110 - watches another object's state
            await asyncio.sleep(0.001)
        keeping.cancel()


async def test_what_happened_is_on_disk_before_it_is_reported(make_judge, spool):
    judge = make_judge()
    happens(judge, *"abc")

    await keep_until(EventKeeper(judge, spool), judge.changed.is_set)

    kept = [finding_pb2.Finding.FromString(data) for _, data in await spool.after(0, 9)]
    assert [finding.finding_id for finding in kept] == ["i-e1", "i-e2", "i-e3"]
    assert {finding.since.seconds for finding in kept} == {1_800_000_000}


async def test_the_same_record_of_another_agents_life_is_known(make_judge, spool):
    for _ in range(2):
        judge = make_judge()
        happens(judge, "a")
        await keep_until(EventKeeper(judge, spool), judge.changed.is_set)

    assert spool.events == 1


async def test_a_slow_disk_is_said_and_nothing_is_lost(make_judge, spool, stuck, monkeypatch):
    monkeypatch.setattr(event_keeper, "WRITTEN_WITHIN_S", 0.02)
    judge = make_judge()
    happens(judge, "a")
    with capture_logs() as logs:
        await keep_until(EventKeeper(judge, spool), judge.changed.is_set)
    stuck.set()

    assert len(await spool.after(0, 9)) == 1
    assert [log["event"] for log in logs] == ["spool.slow"]


async def test_a_dead_disk_does_not_fill_our_memory(make_judge, spool, stuck):
    """A hundred calls wait; what comes then is counted as lost."""
    for _ in range(100):
        spool._thread._calls.put(lambda: True)
    judge = make_judge()
    keeper = EventKeeper(judge, spool)
    happens(judge, "a", "b")
    with capture_logs() as logs:
        await keep_until(keeper, lambda: keeper.dropped)

    assert keeper.dropped == 2
    assert [log["event"] for log in logs] == ["spool.events_dropped"]
    with pytest.raises(DiskBusyError):
        await spool.append([Item("c", b"c")])
    stuck.set()


async def test_a_call_that_nobody_waits_for_any_more_is_carried_out(spool, stuck):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await spool.append([Item("a", b"a")])
    stuck.set()

    assert [data for _, data in await spool.after(0, 9)] == [b"a"]
