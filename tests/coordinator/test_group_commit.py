"""Many callers, one commit; an answer only after it; one that fails harms nobody else."""

from __future__ import annotations

import asyncio

import pytest

from gpuward.coordinator.group_commit import GroupCommit


class Disk:
    """Takes groups one after the other, each when the test lets it."""

    def __init__(self):
        self.groups, self.refused = [], set()
        self.may_commit = asyncio.Semaphore(0)

    async def commit(self, items):
        await self.may_commit.acquire()
        if self.refused & set(items):
            raise OSError(f"refused {sorted(self.refused & set(items))}")
        self.groups.append(list(items))
        return [f"{item} is durable" for item in items]

    async def let(self, times=1):
        for _ in range(times):
            self.may_commit.release()
            await settle()


async def settle():
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
async def disk():
    return Disk()


async def start(group, commits, items):
    tasks = {}
    for item in items:
        tasks[item] = group.create_task(outcome(commits, item))
        await settle()
    return tasks


async def outcome(commits, item):
    """Return the answer or the error; a cancelled caller has none."""
    try:
        return await commits.submit(item)
    except OSError as error:
        return str(error)


async def test_who_comes_during_a_commit_shares_the_next(disk):
    async with asyncio.TaskGroup() as group:
        tasks = await start(group, GroupCommit(disk.commit, limit=9), "abcd")
        await disk.let(2)

    assert [["a"], ["b", "c", "d"]] == disk.groups
    assert {i: f"{i} is durable" for i in "abcd"} == {i: t.result() for i, t in tasks.items()}


async def test_no_answer_before_the_commit(disk):
    async with asyncio.TaskGroup() as group:
        tasks = await start(group, GroupCommit(disk.commit, limit=9), "abc")
        assert not any(task.done() for task in tasks.values())
        await disk.let()
        assert ["a"] == [item for item, task in tasks.items() if task.done()]
        await disk.let()


async def test_a_group_is_bounded_and_in_order(disk):
    async with asyncio.TaskGroup() as group:
        await start(group, GroupCommit(disk.commit, limit=2), "abcdef")
        await disk.let(4)

    assert [["a"], ["b", "c"], ["d", "e"], ["f"]] == disk.groups


async def test_what_the_disk_refuses_fails_alone(disk):
    """The leader of the failed group hears of it too; its agent comes again."""
    disk.refused = {"d"}
    async with asyncio.TaskGroup() as group:
        tasks = await start(group, GroupCommit(disk.commit, limit=9), "abcde")
        await disk.let(5)

    assert [["a"], ["c"], ["e"]] == disk.groups
    assert "refused ['d']" == tasks["b"].result() == tasks["d"].result()


async def test_a_caller_that_goes_takes_its_item_along(disk):
    """A stream that closed while it waited, and one that closed while it committed for others."""
    async with asyncio.TaskGroup() as group:
        tasks = await start(group, GroupCommit(disk.commit, limit=9), "abcd")
        tasks["c"].cancel()
        tasks["a"].cancel()
        await disk.let(2)

    assert [["b", "d"]] == disk.groups
    assert [True, False, True, False] == [tasks[item].cancelled() for item in "abcd"]


async def test_a_leader_that_goes_leaves_the_others_in_line(disk):
    async with asyncio.TaskGroup() as group:
        tasks = await start(group, GroupCommit(disk.commit, limit=9), "abc")
        await disk.let()
        tasks["b"].cancel()
        await disk.let()

    assert [["a"], ["c"]] == disk.groups
    assert "c is durable" == tasks["c"].result()


async def test_nothing_is_kept_of_what_was_answered(disk):
    commits = GroupCommit(disk.commit, limit=9)
    async with asyncio.TaskGroup() as group:
        await start(group, commits, "abcd")
        await disk.let(2)

    assert {} == commits._line


async def test_the_first_in_line_waits_for_others(disk):
    commits = GroupCommit(disk.commit, limit=9, linger_s=0.05)
    async with asyncio.TaskGroup() as group:
        await start(group, commits, "ab")
        assert [] == disk.groups
        await disk.let(9)

    assert [["a", "b"]] == disk.groups


async def test_a_full_group_waits_for_nobody(disk):
    commits = GroupCommit(disk.commit, limit=1, linger_s=3_600.0)
    async with asyncio.TaskGroup() as group:
        tasks = await start(group, commits, "a")
        await disk.let()

    assert "a is durable" == tasks["a"].result()
