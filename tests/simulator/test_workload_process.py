"""The workload as a process: in the driver, in the tap directory, on the command line."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from gpuward.daemon.testing import FakeClock
from gpuward.simulator.allocator import CachingAllocator
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
from gpuward.simulator.state import State
from gpuward.simulator.workload_publish import ReplicaTap
from gpuward.tap.map_layout import Request, pack_request, unpack_map

GIB = 1 << 30


def test_the_process_shows_in_the_driver_and_in_the_tap(tmp_path):
    """The real process: NVML's shared state holds its memory, the tap directory its file.

    On SIGTERM it exits 0 and takes both away.
    """
    state = State.create(tmp_path / "state", 2)
    for index in range(2):
        gpu = state.gpu(index)
        gpu.memory_total_bytes = 80 * GIB
        gpu.uuid = f"GPU-0000000{index}-1111-2222-3333-444444444444".encode()
    taps, addresses = tmp_path / "tap", tmp_path / "addresses.json"
    taps.mkdir()
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "gpuward.simulator.workload", "--gpu", "1"),
            *("--tap-directory", str(taps), "--addresses", str(addresses)),
        ],
        env={"GPUWARD_SIM_STATE": str(tmp_path / "state"), "PATH": "/usr/bin:/bin"},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(addresses.exists)
        base = f"http://{json.loads(addresses.read_text())['http']}"
        wait_for(lambda: 'finished_reason="stop"} 0' not in fetch(f"{base}/metrics"))
        held = state.processes(1)
        files = [path.suffix for path in taps.iterdir()]
        child.send_signal(signal.SIGTERM)
        assert 0 == child.wait(200)
    finally:
        child.kill()
        child.wait()

    assert [child.pid] == [process.pid for process in held]
    assert 60 * GIB < held[0].memory_bytes < 80 * GIB
    assert [".tap"] == files
    assert [] == list(taps.iterdir())
    assert 0 == state.used_bytes(1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param([], "GPUWARD_SIM_STATE is not set", id="no simulated driver"),
        pytest.param(["--alloc-conf", "x:1"], "x: not known to the replica", id="unknown option"),
    ],
)
def test_bad_start_is_one_line(arguments, complaint, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gpuward.simulator.workload", *arguments],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    assert complaint in done.stderr
    assert 1 == len(done.stderr.strip().splitlines())


def wait_for(condition, timeout_s: float = 200.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=200) as reply:
        text: str = reply.read().decode()
    return text


def test_a_tap_directory_that_is_missing_stops_nothing(tmp_path):
    """As the tap in torch: no directory, no file, no harm."""
    tap = ReplicaTap(
        Path("/nonexistent/tap"), "GPU-00000000-1111-2222-3333-444444444444", dict, conf=""
    )

    tap.out_of_memory(0, 1, 2, 3)
    tap.close()

    assert not Path("/nonexistent").exists()


async def test_the_replica_answers_for_its_memory_map(tmp_path):
    """By the tap's own rules, and adding up to its counters, whichever GPU it is on."""
    allocator = CachingAllocator(FixedDevice(8 * GIB, index=3), AllocatorConfig.parse(""))
    held = [allocator.malloc(size << 20) for size in (1, 30, 40, 50)]
    allocator.free(held[2])
    clock = FakeClock()
    tap = ReplicaTap(
        tmp_path,
        "GPU-00000000-1111-2222-3333-444444444444",
        allocator.memory_stats,
        conf="",
        snapshot=allocator.snapshot,
    )
    (file,) = tmp_path.glob("*.tap")
    nonce = bytes(range(16))
    file.with_suffix(".req").write_bytes(pack_request(Request(nonce, 2**63)))

    running = asyncio.create_task(tap.run(clock))
    await clock.advance(3)
    running.cancel()
    answer = unpack_map(file.with_suffix(".map").read_bytes())
    tap.close()

    assert (nonce, 0) == (answer.nonce, answer.outcome)
    assert (
        sum(segment.size for segment in answer.segments)
        == (allocator.memory_stats()["reserved_bytes"]["all"]["current"])
    )
    assert [] == list(tmp_path.glob("*.map"))
