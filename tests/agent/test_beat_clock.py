"""The clock of the agent's loops: they wake together, and as often as they would alone."""

from __future__ import annotations

import asyncio

import pytest

from gpuward.agent.beat_clock import BeatClock


@pytest.mark.parametrize(
    ("due_s", "woken_s"),
    [
        pytest.param(999.0, 1_000.0, id="over already"),
        pytest.param(1_000.02, 1_000.02, id="in a hurry"),
        pytest.param(1_000.49, 1_000.49, id="just in a hurry"),
        pytest.param(1_000.5, 1_000.5, id="on a beat, not in a hurry"),
        pytest.param(1_000.51, 1_000.75, id="between beats"),
        pytest.param(1_005.0, 1_005.0, id="on a beat"),
        pytest.param(1_060.001, 1_060.25, id="long after"),
    ],
)
async def test_it_wakes_with_a_beat_and_never_early(clock, due_s, woken_s):
    woken = []

    async def sleeper():
        beat = BeatClock(clock)
        await beat.sleep_until(due_s)
        woken.append(beat.mono_s())

    task = asyncio.create_task(sleeper())
    await clock.advance(100.0)
    await task

    assert woken == [woken_s]


async def test_loops_keep_their_periods_and_wake_together(clock):
    """A turn is due a second after the one before was due, however late that was."""
    beat = BeatClock(clock)
    turns = {1_000.1: [], 1_000.2: []}

    async def loop(due_s):
        first_s = due_s
        while True:
            due_s += 1.0
            await beat.sleep_until(due_s)
            turns[first_s].append(beat.mono_s())

    tasks = [asyncio.create_task(loop(first_s)) for first_s in turns]
    await clock.advance(4.5)
    for task in tasks:
        task.cancel()

    assert turns[1_000.1] == turns[1_000.2] == [1_001.25, 1_002.25, 1_003.25, 1_004.25]
