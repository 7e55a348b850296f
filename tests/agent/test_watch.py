"""Whoever follows a node sees its newest state, and costs the agent next to nothing."""

from __future__ import annotations

import asyncio

import pytest

from gpuward.agent.changes import Changes
from gpuward.agent.watch import TooManyWatchersError, Watchers


class Node:
    """A snapshot is the number of the change that it was taken after."""

    def __init__(self, clock):
        self.state = 0
        self.changes = Changes()
        self.watchers = Watchers(lambda: self.state, self.changes, clock)

    def change(self):
        self.state += 1
        self.changes.happened()


@pytest.fixture
def node(clock):
    return Node(clock)


class Follower:
    """Takes every snapshot that it is given."""

    def __init__(self, node, interval_s):
        self.seen = []
        self._task = asyncio.create_task(self._follow(node, interval_s))

    async def _follow(self, node, interval_s):
        async for state in node.watchers.follow(interval_s):
            self.seen.append(state)

    async def end(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_a_snapshot_at_once_then_one_for_each_change(node, clock):
    follower = Follower(node, 1.0)
    await clock.advance(5.0)
    at_once = list(follower.seen)
    node.change()
    await clock.advance(0.0)

    assert at_once == [0]
    assert follower.seen == [0, 1]
    await follower.end()


@pytest.mark.parametrize(
    ("asked_s", "at_least_s"),
    [
        pytest.param(0.0, 1.0, id="unset"),
        pytest.param(-5.0, 1.0, id="negative"),
        pytest.param(0.5, 1.0, id="too often"),
        pytest.param(10.0, 10.0, id="as asked"),
    ],
)
async def test_changes_within_the_interval_are_one_snapshot_of_the_newest(
    node, clock, asked_s, at_least_s
):
    follower = Follower(node, asked_s)
    await clock.advance(0.0)
    for _ in range(3):
        node.change()
        await clock.advance(0.1)
    await clock.advance(at_least_s - 0.4)
    before = list(follower.seen)
    await clock.advance(0.1)

    assert before == [0]
    assert follower.seen == [0, 3]
    await follower.end()


async def test_a_change_while_a_snapshot_is_taken_is_not_lost(node, clock):
    seen = []
    async with asyncio.timeout(200):
        async for state in node.watchers.follow(1.0):
            seen.append(state)
            if state == 2:
                break
            node.change()
            advancing = asyncio.create_task(clock.advance(1.0))

    await advancing
    assert seen == [0, 1, 2]


async def test_there_are_eight_places(node, clock):
    followers = [Follower(node, 1.0) for _ in range(8)]
    await clock.advance(0.0)

    with pytest.raises(TooManyWatchersError, match="8 watch already"):
        await anext(node.watchers.follow(1.0))
    await followers[0].end()
    assert await anext(node.watchers.follow(1.0)) == 0
    for follower in followers:
        await follower.end()


async def test_it_ends_when_the_agent_stops(node, clock):
    follower = Follower(node, 60.0)
    await clock.advance(0.0)

    node.watchers.stop()
    async with asyncio.timeout(200):
        await follower._task

    assert follower.seen == [0]
    assert node.watchers.watching == 0
