"""A clock that was set, and a coordinator that is away, are told as such."""

from __future__ import annotations

import pytest

from gpuward.agent.samplers.standing import Standing

STEP, SILENCE = "node_clock_step_seconds", "node_coordinator_silence_seconds"


async def told(standing, clock):
    batch = await standing.sample(clock.mono_s())
    return {sample.key.signal: sample.value for sample in batch.samples}


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        pytest.param(300.0, 300.0, id="forward"),
        pytest.param(-300.0, -300.0, id="back"),
        pytest.param(0.5, 0.5, id="half a second"),
        pytest.param(0.4, 0.0, id="being disciplined"),
    ],
)
@pytest.mark.anyio
async def test_a_clock_that_was_set_is_told_for_ten_minutes(clock, step_s, expected):
    standing = Standing(clock, lambda: None)
    assert await told(standing, clock) == {STEP: 0.0}
    clock.jump_wall(step_s)
    seen = []
    for _ in range(121):
        await clock.advance(5.0)
        seen.append((await told(standing, clock))[STEP])

    assert seen[0] == pytest.approx(expected)
    assert seen[118] == pytest.approx(expected)
    assert seen[120] == 0.0


@pytest.mark.anyio
async def test_the_silence_of_a_coordinator_is_told_where_there_is_one(clock):
    standing = Standing(clock, lambda: clock.mono_s() - 70.0)

    assert (await told(standing, clock))[SILENCE] == 70.0
    assert SILENCE not in await told(Standing(clock, lambda: None), clock)


@pytest.mark.anyio
async def test_a_report_that_is_taken_ends_the_silence(make_judge, clock):
    judge = make_judge()
    await clock.advance(100.0)
    assert clock.mono_s() - judge.acknowledged_s == 100.0

    judge.was_heard([])

    assert clock.mono_s() == judge.acknowledged_s
