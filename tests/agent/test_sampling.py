"""The loops of samplers: each at its own pace, none in the way of another."""

from __future__ import annotations

import asyncio

import pytest

from gpuward.agent.model import Batch, ComponentHealth, Driver, Gpu, Result, Sample, SeriesKey
from gpuward.agent.sampling import Sampling

GPUS = (Gpu("GPU-1", 0, "H100", "1B"), Gpu("GPU-2", 1, "H100", "43"))


class FakeSampler:
    """Answers what it is told to, and remembers when it was asked."""

    def __init__(self, name, period_s=1.0, answer=lambda now_s: Batch()):
        self.name = name
        self.period_s = period_s
        self.answer = answer
        self.asked = []

    async def sample(self, now_s):
        self.asked.append(now_s)
        return self.answer(now_s)


@pytest.fixture
def sample_for(make_judge, clock, components):
    """Run samplers for some fake seconds; returns the sampling."""

    async def run(samplers, seconds):
        judge = make_judge()
        sampling = Sampling(samplers, judge=judge, clock=clock, components=components)
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(sampling.run())
            await clock.advance(seconds)
            loop.cancel()
        return sampling, judge

    return run


async def test_each_has_its_own_pace(sample_for):
    slow, fast = FakeSampler("slow", 5.0), FakeSampler("fast", 1.0)

    await sample_for([slow, fast], 10.0)

    assert slow.asked == [1_000.0, 1_005.0, 1_010.0]
    assert fast.asked == [float(at) for at in range(1_000, 1_011)]


async def test_one_that_fails_is_tried_again_and_hurts_no_other(sample_for, components):
    def fail(now_s):
        raise OSError("no such device")

    bad, good = FakeSampler("bad", answer=fail), FakeSampler("good")
    await sample_for([bad, good], 3.0)

    assert len(bad.asked) == len(good.asked) == 4
    assert [(h.component, h.result) for h in components.health if "sampler" in h.component] == [
        ("sampler.bad", Result.FAIL),
        ("sampler.good", Result.OK),
    ]


async def test_an_unknown_signal_is_the_samplers_failure(sample_for, components):
    wrong = FakeSampler(
        "wrong", answer=lambda now_s: Batch(samples=(Sample(SeriesKey("gpu_x"), now_s, 1.0),))
    )
    await sample_for([wrong], 1.0)

    health = {part.component: part.result for part in components.health}
    assert health["sampler.wrong"] is Result.FAIL


async def test_what_a_sampler_says_of_itself_is_shown(sample_for, components):
    blind = FakeSampler("kmsg")
    blind.health = ComponentHealth("kmsg", Result.UNKNOWN, "/dev/kmsg: Permission denied")

    await sample_for([blind], 1.0)

    said = ComponentHealth("sampler.kmsg", Result.UNKNOWN, "/dev/kmsg: Permission denied")
    assert said in components.health


def driver_answers_after(seconds, *, gpus=2):
    def answer(now_s):
        if now_s < 1_000.0 + seconds:
            return Batch()
        samples = (
            Sample(SeriesKey("gpu_power_draw_watts", gpu=gpu.uuid), now_s, 70.0)
            for gpu in GPUS[:gpus]
        )
        return Batch(samples=tuple(samples), gpus=GPUS, driver=Driver(up=True))

    return answer


@pytest.mark.parametrize(
    ("answer", "after_s", "is_started"),
    [
        pytest.param(driver_answers_after(0.3), 0.2, False, id="before the driver answers"),
        pytest.param(driver_answers_after(0.3), 0.4, True, id="at once when it has"),
        pytest.param(driver_answers_after(0.0, gpus=1), 1.9, False, id="of one GPU nothing yet"),
        pytest.param(driver_answers_after(99.0), 2.1, True, id="a hung driver is not waited for"),
        pytest.param(
            lambda now_s: Batch(driver=Driver(up=False, reason="no library")),
            0.1,
            True,
            id="nor a missing one",
        ),
    ],
)
async def test_started(sample_for, answer, after_s, is_started):
    """Ready when every GPU has figures, and after two seconds in any case."""
    sampling, judge = await sample_for([FakeSampler("nvml", 1.0, answer)], after_s)

    assert sampling.started.is_set() is is_started
    if is_started:
        assert judge.snapshot.driver == judge.readings.window(1_000.0).driver
