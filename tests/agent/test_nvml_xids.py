"""XIDs as NVML reports them: from the simulated driver, through the real binding, to the parent."""

from __future__ import annotations

import asyncio
import time

import pytest

from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.daemon.clock import SystemClock

libraries = pytest.importorskip("gpuward.simulator.libraries")
profile = pytest.importorskip("gpuward.simulator.profile")
state_module = pytest.importorskip("gpuward.simulator.state")
layout = pytest.importorskip("gpuward.simulator.layout")

pytestmark = pytest.mark.simulator

ALL_CALLS = (1 << 14) - 1


@pytest.fixture
def state(tmp_path):
    """Eight H100, idle."""
    machine = profile.load("h100-sxm-x8")
    state = state_module.State.create(tmp_path / "state", len(machine.gpus))
    machine.write_to(state)
    yield state
    state.row.closed = 1
    state.close()


@pytest.fixture
def nvml(state, tmp_path):
    try:
        env = libraries.environment(state.path, tmp_path)
    except libraries.NotBuiltError as error:
        pytest.skip(str(error))
    return NvmlSampler(SystemClock(), env=env)


async def heard(nvml, state, index, code):
    """Let the driver report ``code`` until it is heard of; return all that is heard till then.

    When a GPU has entered the event set nobody says, so the report is repeated.
    """
    found = []
    uuid = state.gpu(index).uuid.decode()
    reported_s = 0.0
    while not any((xid.gpu, xid.code) == (uuid, code) for xid in found):
        if time.monotonic() - reported_s > 1.0:
            state.add_event(index, layout.EventKind.XID, code)
            reported_s = time.monotonic()
        await nvml.sample(time.monotonic())
        while nvml.xids:
            found.append(nvml.xids.popleft())
        await asyncio.sleep(0.02)
    return found


async def test_heard(nvml, state):
    """GPU and code are the driver's, the time is ours, to a second."""
    async with nvml:
        began_s = time.monotonic()
        found = await heard(nvml, state, 3, 79)

    assert {(xid.gpu, xid.code) for xid in found} == {(state.gpu(3).uuid.decode(), 79)}
    assert all(began_s <= xid.since_s <= xid.at_s <= time.monotonic() for xid in found)


async def test_a_lost_gpu_silences_only_itself(nvml, state):
    """NVML complains of it at each look; what the others have is still heard."""
    async with nvml:
        await heard(nvml, state, 1, 31)
        state.gpu(0).lost = 1
        found = await heard(nvml, state, 1, 48)

    assert {xid.gpu for xid in found} == {state.gpu(1).uuid.decode()}


async def test_a_hung_gpu_keeps_only_itself_out(nvml, state):
    """A GPU that never enters the event set does not keep the others from it."""
    state.gpu(0).hang_groups = ALL_CALLS
    async with nvml:
        found = await heard(nvml, state, 7, 94)

    assert {xid.code for xid in found} == {94}
