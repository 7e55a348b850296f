"""What the tap publishes is what torch counts, and publishing stalls nobody."""

from __future__ import annotations

import time
import uuid

import pytest

from gpuward.agent.samplers.tap_file import TapFile
from gpuward.simulator.cuda_stubs import _find_torch

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
FAMILIES = (
    "allocation",
    "segment",
    "active",
    "inactive_split",
    "allocated_bytes",
    "reserved_bytes",
    "active_bytes",
    "inactive_split_bytes",
    "requested_bytes",
)


def published_since(server, directory, mono_ns):
    """The tap file and its record of device 0, once there is one younger than ``mono_ns``."""
    for _ in range(100):
        server.ask("run_python", 0.1)
        for path in directory.glob("*.tap"):
            file = TapFile(path)
            record = file.read().get(0)
            file.close()
            if record is not None and record.mono_ns > mono_ns:
                return file, record
    raise AssertionError(f"nothing published in {[*directory.iterdir()]}")


def test_published_numbers_are_torchs_own(node, tap, tmp_path, torch_python):
    """Every counter in the file equals memory_stats(); watching makes no context on an idle GPU."""
    server = node.serve(**tap)
    for index, size in enumerate([700, 3 * MIB, 90 * MIB, 30 * MIB, 5000]):
        server.ask("malloc", str(index), size)
    server.ask("free", "2")
    before = time.monotonic_ns()

    file, record = published_since(server, tmp_path / "tap", before)
    stats = server.ask("stats")

    for pool, counters in (
        ("all", record.all_pools),
        ("small_pool", record.small_pool),
        ("large_pool", record.large_pool),
    ):
        assert counters._asdict() == {name: stats[name][pool]["current"] for name in FAMILIES}
    assert record.peak._asdict() == {name: stats[name]["all"]["peak"] for name in FAMILIES}
    assert record.totals.device_allocs == stats["num_device_alloc"] > 0
    assert record.totals.allocations == stats["allocation"]["all"]["allocated"] == 5
    assert uuid.UUID(bytes=record.gpu_uuid) == uuid.UUID("00000000-aaaa-bbbb-cccc-ddddeeeeffff")
    assert (
        f"'{file.header.torch_version}'" in (_find_torch(torch_python) / "version.py").read_text()
    )
    assert node.nvml(1)["processes"] == {}
    assert server.leave() == 0
    assert [*(tmp_path / "tap").iterdir()] == []


def test_slow_allocations_do_not_stall_python(node, tap, tmp_path):
    """While cudaMalloc takes a second, the tap leaves the GIL to the other threads.

    A thread that asked the allocator for its counters then would hold the GIL until it is done.
    """
    server = node.serve(**tap)
    server.ask("malloc", "weights", 64 * MIB)
    published_since(server, tmp_path / "tap", 0)
    node.state.row.delay_groups = 1 << 12  # CALLS_CUDA
    node.state.row.delay_microseconds = 1_000_000

    gap_s = server.ask("worst_gap", 4)

    assert gap_s < 0.7
