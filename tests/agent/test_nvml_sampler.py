"""The NVML sampler against a child that behaves as told: it never waits, and always says why."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gpuward.agent.model import SeriesKey
from gpuward.agent.samplers import nvml as nvml_sampler
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.daemon.clock import SystemClock

STAND_IN = Path(__file__).parent / "nvml_child_stand_in.py"
GIB = float(1 << 30)


def sampler(behaviour):
    return NvmlSampler(SystemClock(), command=(sys.executable, str(STAND_IN), behaviour))


async def until(nvml, wanted, *, ahead_s=0.0):
    """Sample until a batch is as wanted; the clock given to it may be ahead."""
    while True:
        batch = await nvml.sample(time.monotonic() + ahead_s)
        if wanted(batch):
            return batch
        await asyncio.sleep(0.02)


def of(batch, signal, **labels):
    values = [s.value for s in batch.samples if s.key == SeriesKey(signal, **labels)]
    return values[-1] if values else None


def is_read(batch):
    return any(sample.key.gpu for sample in batch.samples)


async def test_first_batch_is_whole(monkeypatch):
    """Nothing is shown of a start until every GPU has been read."""
    # However slowly this machine starts a process now.
    monkeypatch.setattr(nvml_sampler, "FIRST_S", 60.0)
    async with sampler("answer") as nvml:
        batch = await until(nvml, lambda batch: batch.driver or batch.samples or batch.gpus)

    assert [(gpu.index, gpu.uuid, gpu.pci_bus_id, gpu.serial) for gpu in batch.gpus] == [
        (0, "GPU-aaaa", "00000000:10:00.0", "165"),
        (1, "GPU-bbbb", "00000000:11:00.0", "165"),
    ]
    assert batch.driver.up
    assert batch.driver.version == "580.105.08"
    assert batch.driver.waiting_s == 0.0
    assert of(batch, "gpu_memory_used_bytes", gpu="GPU-aaaa") == 5 * GIB
    assert of(batch, "gpu_memory_used_bytes", gpu="GPU-bbbb") == 5 * GIB
    assert of(batch, "driver_up") == 1.0


async def test_processes_of_one_key_are_one_series():
    """Two processes of a unit on a GPU are summed; a process on two GPUs is listed once."""
    async with sampler("answer") as nvml:
        batch = await until(nvml, lambda batch: batch.driver)

    key = "vllm.service"
    assert of(batch, "process_gpu_memory_bytes", gpu="GPU-aaaa", process=key) == 3 * GIB
    assert of(batch, "process_gpu_memory_bytes", gpu="GPU-bbbb", process=key) == 1 * GIB
    assert of(batch, "gpu_processes", gpu="GPU-aaaa") == 2.0
    assert [(p.pid, p.gpus) for p in batch.processes] == [
        (41, ("GPU-aaaa", "GPU-bbbb")),
        (42, ("GPU-aaaa",)),
    ]


async def test_hang_is_told_and_spares_the_others():
    """An unanswered call shows its age, its GPU and where the thread stands; GPU 0 goes on."""
    async with sampler("hang") as nvml:
        await until(nvml, lambda batch: batch.driver and batch.driver.waiting_s > 0)
        batch = await until(nvml, is_read, ahead_s=40.0)
        later = await until(nvml, is_read, ahead_s=60.0)

    assert batch.driver.waiting_gpu == "GPU-bbbb"
    assert batch.driver.waiting_call == "nvmlDeviceGetPowerUsage"
    assert batch.driver.blocked_state in ("S", "R", "D")
    assert of(batch, "gpu_memory_used_bytes", gpu="GPU-aaaa") == 5 * GIB
    assert batch.driver.waiting_s > 40
    assert of(batch, "driver_up") == 1.0
    assert of(later, "driver_up") == 0.0


async def test_hang_in_init_is_told():
    """A driver that never answers the first call shows as waiting, not as nothing."""
    async with sampler("hang_in_init") as nvml:
        batch = await until(nvml, lambda batch: batch.driver and batch.driver.waiting_s > 1.0)

    assert batch.driver.waiting_call == "nvmlInit"
    assert batch.driver.waiting_gpu == ""
    assert not batch.driver.up


async def test_silence_is_a_wait():
    """A child whose main thread says nothing counts as one unanswered call."""
    async with sampler("be_silent") as nvml:
        await until(nvml, lambda batch: batch.driver)
        short = await nvml.sample(time.monotonic() + 1.0)
        long = await nvml.sample(time.monotonic() + 12.0)

    assert short.driver.waiting_s == 0.0
    assert long.driver.waiting_s > 11.0


async def test_hung_children_are_abandoned_twice_at_most():
    """Every two minutes a new child looks; two are left behind, the third is kept; age goes on."""
    seen = []
    async with sampler("hang_for_ever") as nvml:
        for ahead_s in (0.0, 200.0, 400.0, 600.0):
            # The next child starts after a back-off, and hangs in its turn.
            await until(nvml, is_read, ahead_s=ahead_s + 10.0)
            batch = await until(
                nvml, lambda batch: nvml._view.heartbeat is not None, ahead_s=ahead_s + 20.0
            )
            batch = await nvml.sample(time.monotonic() + ahead_s + 150.0)
            seen.append((nvml.abandoned_total, batch.driver.waiting_s // 100 * 100))

    assert seen == [(1, 100.0), (2, 300.0), (2, 500.0), (2, 700.0)]


async def test_answer_of_a_new_child_ends_the_wait():
    """A hang is over when the same GPU has answered, though the hung child is still there."""
    async with sampler("hang_for_ever") as nvml:
        await until(nvml, lambda batch: batch.driver and batch.driver.waiting_s > 0)
        await nvml.sample(time.monotonic() + 150.0)
        nvml._children._command = (sys.executable, str(STAND_IN), "answer")
        await until(nvml, lambda batch: batch.driver.waiting_s == 0.0, ahead_s=160.0)

    assert nvml.abandoned_total == 1


def has_ended(nvml, children):
    """Whether the last of so many children has ended."""

    def ended(_):
        return nvml._children.started_total == children and nvml._children.current is None

    return ended


async def test_missing_driver_is_said_once():
    """Restarts back off from 1 s; the log has one line however often the child ends."""
    with capture_logs() as logs:
        async with sampler("missing") as nvml:
            start_s = time.monotonic()
            batch = await until(nvml, lambda batch: batch.driver)
            for restarts, ahead_s in enumerate((10.0, 30.0, 60.0, 100.0), start=1):
                ahead_s += start_s - time.monotonic()  # noqa: PLW2901 - as seen from now
                await until(nvml, has_ended(nvml, 1 + restarts), ahead_s=ahead_s)
            started = nvml._children.started_total

    assert not batch.driver.up
    assert batch.driver.reason == "nvmlInit: Driver Not Loaded"
    assert of(batch, "driver_up") == 0.0
    assert started == 5
    assert [entry["event"] for entry in logs] == ["driver.missing"]


async def test_crashed_child_is_driver_down():
    """A child that dies without a word is told with its exit status."""
    async with sampler("crash") as nvml:
        batch = await until(nvml, lambda batch: batch.driver and not batch.driver.up)

    assert batch.driver.reason == "the NVML child ended with status 3"
    # Who they were is still known: a kernel line about them needs it.
    assert [gpu.uuid for gpu in batch.gpus] == ["GPU-aaaa", "GPU-bbbb"]


async def test_lost_gpu_is_told():
    """A GPU that is lost at the start is a reason, and not a wait."""
    async with sampler("lose") as nvml:
        batch = await until(nvml, lambda batch: batch.driver)

    assert batch.driver.up
    assert batch.driver.reason == "GPU 1: nvmlDeviceGetHandleByIndex: GPU is lost"
    assert [gpu.uuid for gpu in batch.gpus] == ["GPU-aaaa"]


async def test_garbled_message_is_skipped():
    """What is not a message does not hide those that are."""
    async with sampler("garble") as nvml:
        batch = await until(nvml, lambda batch: batch.driver)

    assert batch.driver.up


async def test_unstartable_child():
    """A program that cannot be run is a driver that cannot be asked."""
    async with NvmlSampler(SystemClock(), command=("/nonexistent",)) as nvml:
        batch = await nvml.sample(time.monotonic())

    assert "cannot be started" in batch.driver.reason


@pytest.mark.parametrize("behaviour", ["answer", "cling"])
async def test_stop_is_bounded(behaviour):
    """Stopping ends the child, also one that ignores every polite request."""
    nvml = sampler(behaviour)
    await nvml.start()
    await until(nvml, lambda batch: batch.driver)
    child = nvml._children.current

    async with asyncio.timeout(200):
        await nvml.stop()

    assert child.exit_status() is not None
