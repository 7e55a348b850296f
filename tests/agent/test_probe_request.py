"""A probe on demand: one at a time, bounded, and never where a context could hurt."""

from __future__ import annotations

import asyncio

import pytest

from gpuward.agent.model import Batch, Driver, Gpu, Result, Sample, SeriesKey
from gpuward.agent.probe_request import ProbeRequests
from gpuward.agent.samplers.probe import CPU, ProbeSampler, Reply

GIB = float(1 << 30)
GPUS = (Gpu("GPU-1", 0, "H100", "1B"),)
FIGURES = {"launch_seconds": 1e-5, "stolen_ratio": 0.5}


class Workers(ProbeSampler):
    """Workers that answer when a test says."""

    def __init__(self, directory, **changes):
        super().__init__(directory, **changes)
        self.answers = asyncio.Event()
        self.reply = Reply(figures=FIGURES)
        self.asked = []

    async def _ask(self, device, now_s):
        self.asked.append(device)
        await self.answers.wait()
        return self.reply


@pytest.fixture
def node(make_judge, clock):
    """A node of one GPU; values may be put beside."""

    def make(driver=None, **values):
        judge = make_judge()
        samples = [
            Sample(SeriesKey(signal, gpu="GPU-1"), clock.mono_s(), value)
            for signal, value in values.items()
        ]
        judge.take("nvml", Batch(tuple(samples), gpus=GPUS, driver=driver or Driver(up=True)))
        judge.tick()
        return judge

    return make


@pytest.fixture
def make_workers(tmp_path):
    (tmp_path / "GPU-1.sock").touch()

    def make(**changes):
        return Workers(tmp_path, **{"free_bytes": lambda _: 2 * GIB} | changes)

    return make


def requests(sampler, judge, clock):
    return ProbeRequests(sampler, lambda: judge.snapshot, clock)


@pytest.mark.parametrize("gpu", ["", "GPU-1"], ids=["the processor", "a GPU"])
async def test_figures(node, make_workers, clock, gpu):
    workers = make_workers()
    workers.answers.set()

    probed = await requests(workers, node(), clock).run("latency", gpu)

    assert (probed.result, probed.figures, probed.reason) == (Result.OK, FIGURES, "")
    assert workers.asked == [gpu or CPU]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(({"probe": "matmul"}, {}, "no probe of that name"), id="no such probe"),
        pytest.param(({"gpu": "GPU-9"}, {}, "no GPU of that UUID"), id="no such GPU"),
        pytest.param(({}, {"gpu_compute_mode": 2.0}, "PROHIBITED"), id="prohibited"),
        pytest.param(({}, {"gpu_compute_mode": 3.0}, "EXCLUSIVE_PROCESS"), id="exclusive"),
        pytest.param(({}, {"gpu_mig_mode": 1.0}, "MIG"), id="cut into slices"),
        pytest.param(
            ({}, {"driver": Driver(up=False)}, "driver does not answer"), id="driver hung"
        ),
        pytest.param(({"mode": "cpu"}, {}, "mode is cpu"), id="mode cpu"),
        pytest.param(({"is_released": lambda: True}, {}, "being changed"), id="released"),
        pytest.param(({"free_bytes": lambda _: GIB - 1}, {}, "1024 MiB"), id="too full"),
        pytest.param(({"free_bytes": lambda _: None}, {}, "1024 MiB"), id="nobody knows how full"),
    ],
)
async def test_it_is_refused_before_anything_is_touched(node, make_workers, clock, row):
    case, values, reason = row
    question = {"probe": "latency", "gpu": "GPU-1"} | {
        key: case[key] for key in ("probe", "gpu") if key in case
    }
    workers = make_workers(**{k: v for k, v in case.items() if k not in question})

    probed = await requests(workers, node(**values), clock).run(**question)

    assert probed.result is Result.UNKNOWN
    assert reason in probed.reason
    assert workers.asked == []


async def test_shared_compute_mode_is_no_reason(node, make_workers, clock):
    workers = make_workers()
    workers.answers.set()
    judge = node(gpu_compute_mode=0.0, gpu_mig_mode=0.0)

    assert (await requests(workers, judge, clock).run("latency", "GPU-1")).result is Result.OK


async def test_without_a_worker_it_is_refused(node, make_workers, clock, tmp_path):
    (tmp_path / "GPU-1.sock").unlink()

    probed = await requests(make_workers(), node(), clock).run("latency", "GPU-1")

    assert "gpuward-probe@GPU-1 is not enabled" in probed.reason


async def test_where_probes_are_off_it_is_refused(node, clock):
    probed = await requests(None, node(), clock).run("latency", "")

    assert (probed.result, "mode is off" in probed.reason) == (Result.UNKNOWN, True)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        pytest.param("stalled", Result.FAIL, id="the device does not finish"),
        pytest.param("unsupported", Result.UNKNOWN, id="no CuPy"),
        pytest.param("no worker", Result.UNKNOWN, id="the worker is gone"),
    ],
)
async def test_a_probe_that_fails(node, make_workers, clock, error, result):
    workers = make_workers()
    workers.answers.set()
    workers.reply = Reply(error=error, reason="why")

    probed = await requests(workers, node(), clock).run("latency", "")

    assert (probed.result, probed.reason, probed.figures) == (result, f"{error}: why", {})


async def test_one_at_a_time_and_no_more_than_four_wait(node, make_workers, clock):
    workers = make_workers()
    asking = requests(workers, node(), clock)
    waiting = [asyncio.create_task(asking.run("latency", "")) for _ in range(4)]
    await clock.advance(0.0)
    under_way = list(workers.asked)

    refused = await asking.run("latency", "")
    workers.answers.set()
    answered = await asyncio.gather(*waiting)
    again = await asking.run("latency", "")

    assert under_way == [CPU]
    assert (refused.result, "busy" in refused.reason) == (Result.UNKNOWN, True)
    assert [probed.result for probed in (*answered, again)] == [Result.OK] * 5


async def test_the_scheduled_probe_waits_its_turn_too(node, make_workers, clock):
    workers = make_workers()
    asking = requests(workers, node(), clock)
    on_demand = asyncio.create_task(asking.run("latency", ""))
    await clock.advance(0.0)
    scheduled = asyncio.create_task(workers.sample(clock.mono_s()))
    await clock.advance(0.0)
    under_way = list(workers.asked)
    workers.answers.set()
    await asyncio.gather(on_demand, scheduled)

    assert under_way == [CPU]
    assert workers.asked == [CPU, CPU]
