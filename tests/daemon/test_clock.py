"""Clocks: the machine's and the one that tests move."""

import asyncio

from gpuward.daemon.clock import SystemClock
from gpuward.daemon.testing import FakeClock


async def test_sleepers_wake_in_the_order_they_are_due():
    """Each sleeper sees exactly its own deadline, however far the clock moves in one step."""
    clock = FakeClock(mono_s=100.0)
    woken = []

    async def sleeper(until_s):
        await clock.sleep_until(until_s)
        woken.append((until_s, clock.mono_s()))

    async with asyncio.TaskGroup() as group:
        for until_s in (103.0, 101.0, 102.0):
            group.create_task(sleeper(until_s))
        await clock.advance(10.0)

    assert woken == [(101.0, 101.0), (102.0, 102.0), (103.0, 103.0)]
    assert clock.mono_s() == 110.0


async def test_a_deadline_in_the_past_does_not_wait():
    clock = FakeClock(mono_s=100.0)

    await asyncio.wait_for(clock.sleep_until(99.0), 1.0)

    assert clock.mono_s() == 100.0


def test_a_wall_jump_leaves_intervals_alone():
    clock = FakeClock(wall_s=1_000.0, mono_s=5.0)

    clock.jump_wall(-3_600.0)

    assert (clock.wall_s(), clock.mono_s()) == (-2_600.0, 5.0)


async def test_the_system_clock_sleeps_until_its_own_monotonic_time():
    clock = SystemClock()
    until_s = clock.mono_s() + 0.01

    await clock.sleep_until(until_s)

    assert clock.mono_s() >= until_s
