"""The NVML child with the real binding, on the simulated driver: healthy, hung, lost, reloaded."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from gpuward.agent.model import SeriesKey
from gpuward.agent.samplers import nvml as nvml_sampler
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.daemon.clock import SystemClock

libraries = pytest.importorskip("gpuward.simulator.libraries")
profile = pytest.importorskip("gpuward.simulator.profile")
state_module = pytest.importorskip("gpuward.simulator.state")

pytestmark = pytest.mark.simulator

GIB = 1 << 30
ALL_CALLS = (1 << 14) - 1
PROCESS_CALLS = 1 << 9


@pytest.fixture
def state(tmp_path):
    """Eight H100, idle."""
    machine = profile.load("h100-sxm-x8")
    state = state_module.State.create(tmp_path / "state", len(machine.gpus))
    machine.write_to(state)
    yield state
    # Lets go of whoever still hangs.
    state.row.closed = 1
    state.close()


@pytest.fixture
def nvml(state, tmp_path):
    try:
        env = libraries.environment(state.path, tmp_path)
    except libraries.NotBuiltError as error:
        pytest.skip(str(error))
    return NvmlSampler(SystemClock(), env=env)


async def until(nvml, wanted, *, ahead_s=0.0):
    """Sample until a batch is as wanted; the clock given to it may be ahead."""
    while True:
        batch = await nvml.sample(time.monotonic() + ahead_s)
        if wanted(batch):
            return batch
        await asyncio.sleep(0.02)


def values(batch, gpu):
    return {s.key.signal: s.value for s in batch.samples if s.key.gpu == gpu and not s.key.process}


def shown(batch):
    return {sample.key.gpu for sample in batch.samples if sample.key.gpu}


async def until_shown(nvml, count, *, ahead_s=0.0):
    """Return the GPUs with figures once there are ``count``; each GPU has a pace of its own."""
    seen = set()

    def are_shown(batch):
        seen.update(shown(batch))
        return len(seen) >= count

    await until(nvml, are_shown, ahead_s=ahead_s)
    return seen


async def test_healthy_node(nvml, state, monkeypatch):
    """Every signal of every GPU is in the first picture, with the state's numbers."""
    # However slowly this machine starts a process now.
    monkeypatch.setattr(nvml_sampler, "FIRST_S", 60.0)
    row = state.gpu(3)
    row.memory_driver_bytes = 5 * GIB
    row.utilization_gpu_percent, row.sm_clock_megahertz = 97, 1755
    row.power_draw_milliwatts, row.memory_temperature_celsius = 512_250, 82
    row.pcie_replay_count, row.ecc_volatile_uncorrected_dram = 11, 2
    async with nvml:
        batch = await until(nvml, lambda batch: batch.driver)

    assert [gpu.uuid for gpu in batch.gpus] == [state.gpu(i).uuid.decode() for i in range(8)]
    # Pages are retired before Ampere only, violations counted before driver 580, and memory is
    # called unrepairable from 590 on.
    pages = {f"gpu_retired_pages{what}" for what in ("", "_double_bit", "_pending")}
    assert {gpu.unsupported for gpu in batch.gpus} == {
        frozenset({*pages, "gpu_violation_thermal_seconds_total", "gpu_memory_unrepairable"})
    }
    assert batch.gpus[3].name == "NVIDIA H100 80GB HBM3"
    found = values(batch, batch.gpus[3].uuid)
    assert found["gpu_memory_used_bytes"] == 5.0 * GIB
    assert found["gpu_utilization_ratio"] == 0.97
    assert found["gpu_sm_clock_hertz"] == 1.755e9
    assert found["gpu_power_draw_watts"] == 512.25
    assert found["gpu_memory_temperature_celsius"] == 82.0
    assert found["gpu_pcie_replays_total"] == 11.0
    assert found["gpu_ecc_uncorrected_total"] == 2.0
    memory = [found[f"gpu_memory_{part}_bytes"] for part in ("used", "free", "reserved")]
    assert sum(memory) == found["gpu_memory_total_bytes"]


async def test_process_on_a_gpu(nvml, state):
    """A process that takes memory is seen, with its start and its program."""
    state.take(2, os.getpid(), 3 * GIB)
    uuid = state.gpu(2).uuid.decode()
    async with nvml:
        batch = await until(nvml, lambda batch: batch.processes)

    (process,) = batch.processes
    assert (process.pid, process.gpus) == (os.getpid(), (uuid,))
    assert process.start_ticks == state_module.process_start_ticks(os.getpid())
    series = SeriesKey("process_gpu_memory_bytes", gpu=uuid, process=process.key)
    assert [s.value for s in batch.samples if s.key == series] == [3.0 * GIB]


async def test_one_hung_gpu(nvml, state):
    """A GPU whose calls hang stops itself alone; its age grows, and ends when it answers."""
    uuids = [state.gpu(index).uuid.decode() for index in range(8)]
    async with nvml:
        await until_shown(nvml, 8)
        state.gpu(5).hang_groups = ALL_CALLS
        waiting = await until(nvml, lambda batch: batch.driver.waiting_s > 1.5)
        others = await until_shown(nvml, 7)
        state.gpu(5).hang_groups = 0
        await until(nvml, lambda batch: batch.driver.waiting_s == 0.0 and uuids[5] in shown(batch))

    assert waiting.driver.up
    assert waiting.driver.waiting_gpu == uuids[5]
    assert waiting.driver.waiting_call.startswith("nvmlDeviceGet")
    assert waiting.driver.blocked_state
    assert others == set(uuids) - {uuids[5]}


async def test_hung_from_the_start(nvml, state):
    """A GPU that hangs before it has said who it is does not keep the others from view."""
    state.gpu(0).hang_groups = ALL_CALLS
    async with nvml:
        batch = await until(nvml, lambda batch: len(batch.gpus or ()) == 7)
        waiting = await until(nvml, lambda batch: batch.driver and batch.driver.waiting_s > 1.0)

    assert state.gpu(0).uuid.decode() not in shown(batch)
    assert waiting.driver.waiting_gpu == ""
    assert waiting.driver.waiting_call == "nvmlDeviceGetHandleByIndex"


async def test_lost_gpu(nvml, state):
    """A lost GPU is named in the reason and keeps its identity; the others go on."""
    uuid = state.gpu(1).uuid.decode()
    async with nvml:
        await until_shown(nvml, 8)
        state.gpu(1).lost = 1
        lost = await until(nvml, lambda batch: batch.driver.reason)
        others = await until_shown(nvml, 7)

    assert uuid not in others
    assert lost.driver.up
    assert lost.driver.reason.startswith(f"{uuid}: nvmlDeviceGet")
    assert lost.driver.reason.endswith("GPU is lost")
    assert uuid in [gpu.uuid for gpu in lost.gpus]


async def test_driver_reload(nvml, state):
    """Unloaded, mismatched, loaded: each is said, and the numbers come back by themselves."""
    async with nvml:
        await until_shown(nvml, 8)
        state.unload_driver()
        gone = await until(nvml, lambda batch: not batch.driver.up)
        state.load_driver("590.44.01", library_version="580.105.08")
        mismatch = await until(
            nvml, lambda batch: "mismatch" in batch.driver.reason.lower(), ahead_s=100.0
        )
        state.load_driver("590.44.01")
        back = await until(nvml, lambda batch: batch.driver.up, ahead_s=200.0)
        await until_shown(nvml, 8, ahead_s=200.0)

    assert "Driver Not Loaded" in gone.driver.reason
    assert len(gone.gpus) == 8
    assert not mismatch.driver.up
    assert back.driver.version == "590.44.01"


async def test_missing_library(tmp_path):
    """A node without a driver library is a driver that is down, and says which library."""
    async with NvmlSampler(SystemClock(), env={"PATH": os.environ["PATH"]}) as nvml:
        batch = await until(nvml, lambda batch: batch.driver and batch.driver.reason)

    assert not batch.driver.up
    assert batch.driver.reason == "nvmlInit: NVML Shared Library Not Found"


async def test_consumer_card(tmp_path):
    """What a GeForce does not have is absent, and named as unsupported."""
    machine = profile.load("rtx4090-x1")
    state = state_module.State.create(tmp_path / "state", len(machine.gpus))
    machine.write_to(state)
    try:
        env = libraries.environment(state.path, tmp_path)
    except libraries.NotBuiltError as error:
        pytest.skip(str(error))
    async with NvmlSampler(SystemClock(), env=env) as nvml:
        batch = await until(nvml, lambda batch: batch.gpus and batch.gpus[0].unsupported)
    state.close()

    assert batch.gpus[0].serial == ""
    assert "gpu_ecc_corrected_total" in batch.gpus[0].unsupported
    assert "gpu_ecc_corrected_total" not in values(batch, batch.gpus[0].uuid)
