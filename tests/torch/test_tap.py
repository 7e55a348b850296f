"""The tap in an unmodified torch on the simulated runtime: real statistics, real errors."""

from __future__ import annotations

import asyncio
import time
import tomllib
from pathlib import Path

import pytest

from gpuward.agent.samplers.tap import TapSampler
from gpuward.agent.samplers.tap_samples import DeviceMemory
from gpuward.daemon.clock import SystemClock

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

TAP = Path(__file__).parents[2] / "agent" / "tap"
MIB = 1 << 20
GIB = 1 << 30
GPU = "GPU-00000000-aaaa-bbbb-cccc-ddddeeeeffff"


@pytest.fixture
def tap(tmp_path):
    """A folder that PYTHONPATH needs so that torch finds the tap, and the tap's directory."""
    info = tmp_path / "path" / "gpuward_tap-0.1.0.dist-info"
    info.mkdir(parents=True)
    project = tomllib.loads((TAP / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["torch.backends"]
    info.joinpath("METADATA").write_text("Name: gpuward-tap\nVersion: 0.1.0\n")
    info.joinpath("entry_points.txt").write_text(
        "[torch.backends]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
    )
    directory = tmp_path / "tap"
    directory.mkdir()
    return {"PYTHONPATH": f"{info.parent}:{TAP}", "GPUWARD_TAP_DIR": str(directory)}


class Watch:
    """Samples the tap directory until something is seen."""

    def __init__(self, directory):
        self._sampler = TapSampler(
            Path(directory),
            clock=SystemClock(),
            proc_root=Path("/proc"),
            device_memory=lambda _: DeviceMemory(8 * GIB, GIB),
        )

    def until(self, wanted):
        """Return the first true ``wanted(batch)`` of ten seconds."""
        for _ in range(100):
            batch = asyncio.run(self._sampler.sample(time.monotonic()))
            if found := wanted(batch):
                return found
            time.sleep(0.1)
        raise AssertionError("not seen within ten seconds")


def figures(batch):
    return {sample.key.signal: sample.value for sample in batch.samples if sample.key.gpu == GPU}


def test_torch_shows_its_allocator(node, tap):
    """Reserved and allocated are what torch itself says, the pid is the process's own."""
    server = node.serve(**tap)
    server.ask("alloc", "a", 100 * MIB)
    server.ask("alloc", "b", 300 * MIB)
    server.ask("free", "a")
    stats = server.ask("stats")
    watch = Watch(tap["GPUWARD_TAP_DIR"])
    seen = watch.until(
        lambda batch: (
            figures(batch)
            if figures(batch).get("process_memory_allocated_bytes") == 300 * MIB
            else None
        )
    )

    assert seen["process_memory_reserved_bytes"] == stats["reserved_bytes.all.current"]
    assert server.leave() == 0
    assert list(Path(tap["GPUWARD_TAP_DIR"]).iterdir()) == []
