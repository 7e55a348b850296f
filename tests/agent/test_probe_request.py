"""A probe on demand: one at a time, bounded, and never where a context could hurt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gpuward.agent.model import Gpu, Result, Sample, SeriesKey
from gpuward.agent.probe_link import Reply
from gpuward.agent.probe_request import ProbeRequests
from gpuward.agent.probe_rules import Worker
from gpuward.agent.probe_workers import CPU, Workers
from gpuward.agent.samplers.probe import ProbeSampler
from gpuward.agent.window import Window

GPUS = (Gpu("GPU-1", 0, "H100", "1B"), Gpu("GPU-2", 1, "H100", "1C"))
FIGURES = {"launch_seconds": 1e-5, "stolen_ratio": 0.5}


class Sampler(ProbeSampler):
    """Its workers answer when a test says."""

    def __init__(self, *arguments, **changes):
        super().__init__(*arguments, **changes)
        self.answers = asyncio.Event()
        self.reply = Reply(figures=FIGURES)
        self.asked = []

    async def _ask(self, uuid, request, now_s):
        self._device(uuid).worker = Worker(pid=5, context_s=0.0)
        if "probe" not in request:
            return Reply()
        self.asked.append((uuid, request["probe"]))
        await self.answers.wait()
        return self.reply


@pytest.fixture
def make_sampler(tmp_path):
    (tmp_path / "GPU-1.sock").touch()

    def make(*, free_gib=2.0, compute_mode=0.0, **changes):
        def window(now_s):
            said = {"gpu_compute_mode": compute_mode, "gpu_confidential_mode": 0.0}
            said["gpu_memory_free_bytes"] = free_gib * (1 << 30)
            samples = [Sample(SeriesKey(name, gpu="GPU-1"), now_s, v) for name, v in said.items()]
            return Window.of(samples, now_s=now_s, gpus=GPUS)

        places = {"proc_root": Path("/proc"), "pci_devices": tmp_path}
        return Sampler(Workers(tmp_path), window, **places, **changes)

    return make


@pytest.mark.parametrize(
    ("probe", "gpu"),
    [("latency", ""), ("latency", "GPU-1"), ("product", "GPU-1"), ("allocation", "GPU-1")],
)
async def test_figures(make_sampler, clock, probe, gpu):
    sampler = make_sampler()
    sampler.answers.set()

    probed = await ProbeRequests(sampler, clock).run(probe, gpu)

    assert (probed.result, probed.figures, probed.reason) == (Result.OK, FIGURES, "")
    assert sampler.asked == [(gpu or CPU, probe)]


@pytest.mark.parametrize(
    ("question", "changes", "reason"),
    [
        pytest.param(("matmul", "GPU-1"), {}, "no such probe", id="no such probe"),
        pytest.param(
            ("product", ""), {}, "of the processor; there is: latency", id="none of the processor"
        ),
        pytest.param(("latency", "GPU-9"), {}, "no GPU of that UUID", id="no such GPU"),
        pytest.param(("latency", "GPU-2"), {}, "gpuward-probe@GPU-2 is not", id="no worker"),
        pytest.param(("latency", "../GPU-1"), {}, "no GPU of that UUID", id="a path"),
        pytest.param(("latency", "GPU-1"), {"compute_mode": 3.0}, "EXCLUSIVE", id="by the rules"),
        pytest.param(("allocation", "GPU-1"), {"free_gib": 0.9}, "MiB are free", id="too full"),
        pytest.param(("latency", "GPU-1"), {"mode": "cpu"}, "mode is cpu", id="mode cpu"),
        pytest.param(
            ("latency", "GPU-1"), {"is_released": lambda: True}, "being changed", id="released"
        ),
    ],
)
async def test_it_is_refused_before_anything_is_touched(
    make_sampler, clock, question, changes, reason
):
    sampler = make_sampler(**changes)

    probed = await ProbeRequests(sampler, clock).run(*question)

    assert probed.result is Result.UNKNOWN
    assert reason in probed.reason
    assert sampler.asked == []
    assert sampler._devices.keys() <= {"GPU-1", "GPU-2"}


async def test_where_probes_are_off_it_is_refused(clock):
    probed = await ProbeRequests(None, clock).run("latency", "")

    assert (probed.result, "mode is off" in probed.reason) == (Result.UNKNOWN, True)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        pytest.param("stalled", Result.FAIL, id="the device does not finish"),
        pytest.param("unsupported", Result.UNKNOWN, id="no CuPy"),
        pytest.param("no worker", Result.UNKNOWN, id="the worker is gone"),
    ],
)
async def test_a_probe_that_fails(make_sampler, clock, error, result):
    sampler = make_sampler()
    sampler.answers.set()
    sampler.reply = Reply(error=error, reason="why")

    probed = await ProbeRequests(sampler, clock).run("latency", "")

    assert (probed.result, probed.reason, probed.figures) == (result, f"{error}: why", {})


async def test_one_at_a_time_and_no_more_than_four_wait(make_sampler, clock):
    sampler = make_sampler()
    asking = ProbeRequests(sampler, clock)
    waiting = [asyncio.create_task(asking.run("latency", "")) for _ in range(4)]
    await clock.advance(0.0)
    under_way = list(sampler.asked)

    refused = await asking.run("latency", "")
    sampler.answers.set()
    answered = await asyncio.gather(*waiting)
    again = await asking.run("latency", "")

    assert under_way == [(CPU, "latency")]
    assert (refused.result, "busy" in refused.reason) == (Result.UNKNOWN, True)
    assert [probed.result for probed in (*answered, again)] == [Result.OK] * 5


async def test_one_that_waits_is_judged_when_its_turn_comes(make_sampler, clock):
    """What was allowed when it was asked may be refused by then: the GPU is released meanwhile."""
    released = []
    sampler = make_sampler(is_released=lambda: bool(released))
    asking = ProbeRequests(sampler, clock)
    first = asyncio.create_task(asking.run("latency", "GPU-1"))
    second = asyncio.create_task(asking.run("latency", "GPU-1"))
    await clock.advance(0.0)
    released.append(True)
    sampler.answers.set()

    assert (await first).result is Result.OK
    assert "being changed" in (await second).reason
    assert sampler.asked == [("GPU-1", "latency")]


async def test_the_schedule_waits_while_a_person_measures(make_sampler, clock):
    sampler = make_sampler()
    on_demand = asyncio.create_task(ProbeRequests(sampler, clock).run("latency", ""))
    await clock.advance(0.0)
    scheduled = asyncio.create_task(sampler.sample(clock.mono_s()))
    await clock.advance(0.0)
    under_way = list(sampler.asked)
    sampler.answers.set()
    await asyncio.gather(on_demand, scheduled)
    await sampler.sample(clock.mono_s())

    assert (CPU, "latency") in under_way
    assert under_way.count((CPU, "latency")) == 1
    assert sampler.asked.count((CPU, "latency")) == 2
