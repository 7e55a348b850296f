"""What a process held that ended without letting go, from the driver's list to the finding."""

from __future__ import annotations

import asyncio
import os

import pytest

from gpuward.agent.detectors.memory_unattributed import detect
from gpuward.agent.model import Batch
from gpuward.agent.samplers.memory_accounts import accounts
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.agent.window import Readings
from gpuward.daemon.clock import SystemClock

libraries = pytest.importorskip("gpuward.simulator.libraries")
profile = pytest.importorskip("gpuward.simulator.profile")
state_module = pytest.importorskip("gpuward.simulator.state")

pytestmark = pytest.mark.simulator

GIB = 2**30


@pytest.fixture
def machine(tmp_path):
    """A GPU on which a process that is not there holds 3 GiB, and the sampler of it."""
    wanted = profile.load("h100-sxm-x8")
    state = state_module.State.create(tmp_path / "state", len(wanted.gpus))
    wanted.write_to(state)
    # The simulated driver lets go of the dead: so one that lives, in no /proc that the agent sees.
    assert state.take(0, os.getpid(), 3 * GIB)
    proc_root = tmp_path / "proc"
    proc_root.mkdir()
    try:
        env = libraries.environment(state.path, tmp_path)
    except libraries.NotBuiltError as error:
        pytest.skip(str(error))
    sampler = NvmlSampler(SystemClock(), env=env, proc_root=proc_root)
    yield os.getpid(), state.gpu(0).uuid.decode(), sampler
    state.row.closed = 1
    state.close()


async def test_memory_of_the_dead(machine):
    """The driver's list, /proc and the GPU's sum tell it together; only a reset helps."""
    pid, gpu, nvml = machine
    clock, readings, found = SystemClock(), Readings(), []
    async with nvml, asyncio.timeout(200):
        while not any(one.outcome.value in ("bad", "doubtful") for one in found):
            now_s = clock.mono_s()
            readings.apply("nvml", await nvml.sample(now_s), now_s)
            said = tuple(accounts(readings.window(now_s)))
            readings.apply("accounts", Batch(samples=said), now_s)
            found = [one for one in detect(readings.window(now_s)) if one.subject.gpu == gpu]
            await asyncio.sleep(0.1)

    facts = {fact.name: fact for fact in found[0].evidence}
    assert "by processes that do not exist any more" in found[0].summary
    assert facts["gpu_memory_zombie_bytes"].value == 3 * GIB
    assert facts["zombie_pids"].text == str(pid)
    assert facts["remedy_gpu_reset_bytes"].value >= 3 * GIB
