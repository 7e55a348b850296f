"""A real card, a real driver, a real torch: what the simulator only claims.

`make gpu` runs these from source.  GPUWARD_RECORD=FOLDER keeps what was seen as JSON, to become
fixtures; GPUWARD_TORCH_PYTHON names an interpreter with torch when this one has none.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from gpuward.agent.detectors.memory_fragmentation import detect
from gpuward.agent.model import SeriesKey
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.agent.samplers.tap import TapSampler
from gpuward.agent.samplers.tap_samples import DeviceMemory
from gpuward.agent.window import Readings
from gpuward.daemon.clock import SystemClock

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(120)]

TORCH_PYTHON = os.environ.get("GPUWARD_TORCH_PYTHON", sys.executable)
FRACTION = "0.05"


def record(name, value):
    """Keep ``value`` for the fixtures when somebody asked for it."""
    if folder := os.environ.get("GPUWARD_RECORD"):
        Path(folder, name).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))


async def readings_of_the_driver(seconds):
    """Return everything that the NVML child says in ``seconds``."""
    clock, readings = SystemClock(), Readings()
    async with NvmlSampler(clock) as sampler:
        until_s = clock.mono_s() + seconds
        while clock.mono_s() < until_s:
            now_s = clock.mono_s()
            readings.apply("nvml", await sampler.sample(now_s), now_s)
            await asyncio.sleep(0.2)
        return readings.window(clock.mono_s())


def test_the_driver_is_read_as_nvml_documents_it():
    """Memory adds up, temperatures and power are a card's, what is unsupported is named."""
    window = asyncio.run(readings_of_the_driver(8.0))

    def value(gpu, signal):
        sample = window.latest(SeriesKey(signal, gpu=gpu.uuid))
        return None if sample is None else sample.value

    figures = {gpu.uuid: {} for gpu in window.gpus}
    for key, sample in window.fresh().items():
        if key.gpu in figures:
            figures[key.gpu][key.signal] = sample.value
    record("nvml.json", {"driver": window.driver, "gpus": window.gpus, "figures": figures})
    assert window.driver.up
    assert window.gpus
    for gpu in window.gpus:
        parts = ("used", "free", "reserved")
        assert value(gpu, "gpu_memory_total_bytes") == sum(
            value(gpu, f"gpu_memory_{part}_bytes") for part in parts
        )
        assert 10 < value(gpu, "gpu_temperature_celsius") < 110
        assert 5 < value(gpu, "gpu_power_draw_watts") <= value(gpu, "gpu_power_limit_watts") * 1.2
        assert 0 <= value(gpu, "gpu_utilization_ratio") <= 1


@pytest.fixture
def program(tap):
    """The fragmenting program with the tap in it, and its lines as they come."""
    child = subprocess.Popen(
        [TORCH_PYTHON, Path(__file__).with_name("program_fragment.py"), FRACTION, "2.5"],
        env={**os.environ, **tap},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield child
    child.communicate(timeout=30)


def seen_from_outside(directory):
    """Return what an agent's tap sampler makes of ``directory`` now."""
    readings = Readings()
    sampler = TapSampler(
        Path(directory),
        clock=SystemClock(),
        proc_root=Path("/proc"),
        device_memory=lambda _: DeviceMemory(80 << 30, 0),
    )
    now_s = time.monotonic()
    readings.apply("tap", asyncio.run(sampler.sample(now_s)), now_s)
    return readings.window(now_s)


def test_fragmentation_is_seen_from_outside(program, tap):
    """In every phase the agent reads what torch says; the hole is found, and named."""
    phases = []
    for line in program.stdout:
        said = json.loads(line)
        window = seen_from_outside(tap["GPUWARD_TAP_DIR"])
        outside = {key.signal: sample.value for key, sample in window.fresh().items()}
        phases.append({"inside": said, "outside": outside, "findings": list(detect(window))})
        if said["phase"] == "snapshot":
            break
    record("tap.json", phases)

    by_phase = {phase["inside"]["phase"]: phase for phase in phases}
    for name in ("full", "holed", "failed"):
        inside, outside = by_phase[name]["inside"], by_phase[name]["outside"]
        assert outside["process_memory_reserved_bytes"] == inside["reserved_bytes.all.current"]
        assert outside["process_memory_active_bytes"] == inside["active_bytes.all.current"]
    (finding,) = by_phase["failed"]["findings"]
    assert finding.kind == "process.memory.fragmentation"
    assert finding.subject.pid == program.pid
