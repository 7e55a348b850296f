"""A real card, a real driver, a real torch: what the simulator only claims.

`make gpu` runs these from source.  On the simulator they pass as well, which is how they are kept
in order; there they show nothing of a card.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from gpuward.agent.detectors.memory_fragmentation import detect
from gpuward.agent.model import SeriesKey
from gpuward.agent.nvml_calls import CALLS
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.agent.samplers.tap import TapSampler
from gpuward.agent.samplers.tap_samples import DeviceMemory
from gpuward.agent.window import Readings
from gpuward.daemon.clock import SystemClock

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(120)]

MIB = 1 << 20
FRACTION = 0.05
# The error of a call that this GPU, its driver or the binding does not have.
UNSUPPORTED = {
    "NotSupported",
    "FunctionNotFound",
    "ArgumentVersionMismatch",
    "binding: AttributeError",
}


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


def answers(card):
    """Return what NVML answers to each question, by question: a value, or the error's name."""
    child = card.start("gpu/programs/capture_nvml.py", python=sys.executable).child
    printed, _ = child.communicate()
    lines = printed.splitlines()
    assert child.returncode == 0, f"NVML ended the process after {lines[-1]}"
    return {question: tuple(answer) for question, *answer in map(json.loads, lines)}


def _error(answer):
    return answer[1] if len(answer) > 1 else ""


def test_the_driver_is_read_as_nvml_documents_it(card, record):
    """Memory adds up; temperature and power are a card's; unsupported is what NVML calls so."""
    found = answers(card)
    record("nvml-answers", found, "every question to NVML that changes nothing, and its answer")
    window = asyncio.run(readings_of_the_driver(3.0 if card.is_quick else 8.0))
    gpu = next(gpu for gpu in window.gpus if gpu.index == 0)

    def value(signal):
        return window.latest(SeriesKey(signal, gpu=gpu.uuid)).value

    asked = {signal for call in CALLS for signal in call.signals}
    answered = {
        signal
        for call in CALLS
        for signal in call.signals
        if _error(found[f"{call.name}: {', '.join(call.signals)}"]) not in UNSUPPORTED
    }
    parts = ("used", "free", "reserved")
    assert window.driver.up
    assert asked - answered == asked & set(gpu.unsupported)
    assert value("gpu_memory_total_bytes") == sum(value(f"gpu_memory_{p}_bytes") for p in parts)
    assert 10 < value("gpu_temperature_celsius") < 110
    assert 5 < value("gpu_power_draw_watts") <= value("gpu_power_limit_watts") * 1.2
    assert 0 <= value("gpu_utilization_ratio") <= 1


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


def test_fragmentation_is_seen_from_outside(card, tap, record):
    """In every phase the agent reads what torch says; the hole is found, and named."""
    program = card.start("gpu/programs/fragment.py", FRACTION, 2.5, **tap)
    phases = []
    while not phases or phases[-1]["inside"]["phase"] != "snapshot":
        said = program.read()
        window = seen_from_outside(tap["GPUWARD_TAP_DIR"])
        outside = {key.signal: sample.value for key, sample in window.fresh().items()}
        phases.append({"inside": said, "outside": outside, "findings": list(detect(window))})
    record("tap-phases", phases, "a process that is full, in pieces, and fails: inside and outside")

    by_phase = {phase["inside"]["phase"]: phase for phase in phases}
    for name in ("full", "holed", "failed"):
        inside, outside = by_phase[name]["inside"], by_phase[name]["outside"]
        assert outside["process_memory_reserved_bytes"] == inside["reserved_bytes.all.current"]
        assert outside["process_memory_active_bytes"] == inside["active_bytes.all.current"]
    (finding,) = by_phase["failed"]["findings"]
    assert finding.kind == "process.memory.fragmentation"
    assert finding.subject.pid == program.pid


@pytest.mark.parametrize("kind", ["here", "fork", "spawn", "forkserver"])
def test_workers_are_seen_by_tap_and_driver(card, tap, record, kind):
    """However an engine makes its worker: the tap and NVML name the same pid and a like amount."""
    program = card.start("torch/programs/worker.py", kind, "run_python", **tap)
    pid = program.read()["pid"]
    until_s = time.monotonic() + 20.0
    processes, held = [], {}
    while (pid not in [process.pid for process in processes] or str(pid) not in held) and (
        time.monotonic() < until_s
    ):
        processes = list(seen_from_outside(tap["GPUWARD_TAP_DIR"]).processes)
        held = card.nvml()["processes"]
    record(
        "workers", held.get(str(pid)), "what NVML says a worker holds that has 64 MiB", part=kind
    )

    assert [process.pid for process in processes] == [pid]
    # Its tensor of 64 MiB and the CUDA context.
    assert 64 * MIB < held[str(pid)] < 4096 * MIB
