"""torch's memory is the simulated GPU's memory: NVML shows it, it runs out, and it comes back."""

from __future__ import annotations

import os
import signal

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
GIB = 1 << 30
CONTEXT = 520 * MIB
TOTAL = 8 * GIB - 512 * MIB

BACKENDS = [
    pytest.param("", id="default"),
    pytest.param("expandable_segments:True", id="expandable segments"),
    pytest.param("backend:cudaMallocAsync", id="cudaMallocAsync"),
]


@pytest.mark.parametrize("settings", BACKENDS)
def test_memory_is_seen_by_nvml_until_the_process_exits(node, settings):
    """NVML names the process and its bytes, context included; empty_cache and exit return them."""
    server = node.serve(PYTORCH_ALLOC_CONF=settings)
    pid = str(server.process.pid)

    server.ask("malloc", "weights", 1000 * MIB)
    loaded = node.nvml(0)
    server.ask("free", "weights")
    server.ask("empty_cache")
    emptied = node.nvml(0)
    status = server.leave()
    left = node.nvml(0)

    assert loaded["processes"] == {pid: CONTEXT + 1000 * MIB}
    assert loaded["used"] == CONTEXT + 1000 * MIB
    assert loaded["free"] == TOTAL - CONTEXT - 1000 * MIB
    assert emptied["processes"] == {pid: CONTEXT}
    assert status == 0
    assert (left["processes"], left["used"]) == ({}, 0)
    assert node.nvml(1)["used"] == 0


def test_memory_returns_after_kill(node):
    """A killed process cannot give its memory back, so the driver does."""
    server = node.serve()
    server.ask("malloc", "weights", GIB, 1)
    loaded = node.nvml(1)

    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()

    assert loaded["used"] == CONTEXT + GIB
    now = node.nvml(1)
    assert (0, TOTAL, 8 * GIB, {}) == (now["used"], now["free"], now["total"], now["processes"])


def test_fork_neither_uses_nor_returns_the_parents_memory(node):
    """CUDA does not survive fork: the child gets an error, its exit changes nothing."""
    server = node.serve()
    server.ask("malloc", "weights", GIB)

    status = server.ask("fork")

    assert status == 3  # cudaErrorInitializationError
    assert node.nvml(0)["used"] == CONTEXT + GIB


@pytest.mark.parametrize("settings", BACKENDS[:2])
def test_fragmented_memory_runs_out(node, settings):
    """A tensor smaller than the sum of the holes does not fit; torch's error names the neighbour.

    Expandable segments can move the holes' pages, so there it fits.
    """
    neighbour = os.getpid()
    assert node.state.take(0, neighbour, 2 * GIB)
    server = node.serve(PYTORCH_ALLOC_CONF=settings)
    names = [str(index) for index in range(47)]
    for name in names:
        server.ask("malloc", name, 100 * MIB)
    for name in names[::2]:
        server.ask("malloc", name, 60 * MIB)  # takes the front of a hole: 40 MiB stay behind it
    stats, free = server.ask("stats"), server.ask("free_bytes")

    outcome = server.ask("malloc", "large", GIB)

    after = server.ask("stats")
    unused = stats["reserved_bytes"]["all"]["current"] - stats["active_bytes"]["all"]["current"]
    assert unused + free > GIB
    assert stats["num_ooms"] == 0
    if "expandable" in settings:
        assert isinstance(outcome, float)
        return
    assert outcome["error"] == "OutOfMemoryError"
    assert "Tried to allocate 1024.00 MiB" in outcome["text"]
    assert f"Process {neighbour} has 2.00 GiB memory in use" in outcome["text"]
    assert after["num_ooms"] == 1
    assert after["num_alloc_retries"] >= 1


def test_lost_gpu(node):
    """Every call that reaches a GPU off the bus fails; the other GPU works on."""
    server = node.serve()
    server.ask("malloc", "here", 64 * MIB, 0)
    node.state.gpu(0).lost = 1

    allocation = server.ask("malloc", "more", 64 * MIB, 0)
    copy = server.ask("copy_back", "here")
    elsewhere = server.ask("malloc", "there", 64 * MIB, 1)

    assert allocation["error"] == copy["error"] == "AcceleratorError"
    assert "unknown error" in allocation["text"]
    assert isinstance(elsewhere, float)


def test_slow_driver(node):
    """A scenario can make calls into the driver slow; what torch has cached stays fast."""
    server = node.serve()
    server.ask("malloc", "first", 64 * MIB)
    server.ask("free", "first")
    node.state.row.delay_groups = 1 << 12  # CALLS_CUDA
    node.state.row.delay_microseconds = 300_000

    cached_s = server.ask("malloc", "cached", 64 * MIB)
    segment_s = server.ask("malloc", "segment", 512 * MIB)

    assert segment_s >= 0.3
    assert cached_s < segment_s


def test_busy_stream(node):
    """Work lasts until somebody waits for it, and then it is done; cudaFree waits as well."""
    server = node.serve()

    seen = server.ask("see_busy_stream")
    freed = server.ask("free_beside_busy_stream")

    assert seen == {
        "events": [True, True, False],
        "streams": [False, True],
        "after": [True, True],
    }
    assert freed == [True, True]


def test_threads(node):
    """Allocating from several threads on two devices loses no byte."""
    server = node.serve()

    answer = server.ask("churn", 8, 60)

    assert answer is None
    assert node.nvml(0)["used"] == CONTEXT
    assert node.nvml(1)["used"] == CONTEXT
