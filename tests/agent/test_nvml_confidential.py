"""Confidential mode, from the simulated driver through the real binding to the rule of probes."""

from __future__ import annotations

import asyncio
import time

import pytest

from gpuward.agent.model import SeriesKey
from gpuward.agent.probe_rules import Worker, hindrance
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.agent.window import Readings
from gpuward.daemon.clock import SystemClock

layout = pytest.importorskip("gpuward.simulator.layout")
libraries = pytest.importorskip("gpuward.simulator.libraries")
profile = pytest.importorskip("gpuward.simulator.profile")
state_module = pytest.importorskip("gpuward.simulator.state")

pytestmark = pytest.mark.simulator

CAN_BE = layout.Capability.CONFIDENTIAL


@pytest.fixture
def machine(tmp_path):
    """Make a profile's machine, confidential or not, and the sampler that reads it."""
    states = []

    def make(name, *, confidential):
        wanted = profile.load(name)
        state = state_module.State.create(tmp_path / "state", len(wanted.gpus))
        states.append(state)
        wanted.write_to(state)
        if confidential:
            state.gpu(0).capabilities |= CAN_BE
        try:
            env = libraries.environment(state.path, tmp_path)
        except libraries.NotBuiltError as error:
            pytest.skip(str(error))
        return state.gpu(0).uuid.decode(), NvmlSampler(SystemClock(), env=env)

    yield make
    for state in states:
        state.row.closed = 1
        state.close()


async def window_of(nvml, uuid):
    """Return what is known of the node once the modes of the GPU are."""
    readings = Readings()
    async with nvml:
        while True:
            now_s = time.monotonic()
            readings.apply("nvml", await nvml.sample(now_s), now_s)
            window = readings.window(now_s)
            if window.latest(SeriesKey("gpu_recovery_action", gpu=uuid)) and window.driver.up:
                return window
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("name", "confidential", "shown", "says"),
    [
        pytest.param("h100-sxm-x8", True, 1.0, "confidential mode: a probe", id="on"),
        pytest.param("h100-sxm-x8", False, 0.0, "has not been watched", id="off"),
        pytest.param("l40s-x4", False, None, "has not been watched", id="before Hopper"),
    ],
)
async def test_mode(machine, name, confidential, shown, says):
    """No GPU that is confidential is measured; where there is no such thing it hinders nothing."""
    uuid, nvml = machine(name, confidential=confidential)
    window = await window_of(nvml, uuid)

    sample = window.latest(SeriesKey("gpu_confidential_mode", gpu=uuid))
    assert (None if sample is None else sample.value) == shown
    assert says in hindrance(window, uuid, Worker())
