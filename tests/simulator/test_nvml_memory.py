"""Memory of simulated GPUs: the sums hold, and death gives back."""

import os

import pytest

pytestmark = pytest.mark.simulator

GIB = 1 << 30
V2 = (
    "(lambda m: (m.total, m.reserved, m.used, m.free))"
    "(nvmlDeviceGetMemoryInfo(gpu(), version=nvmlMemory_v2))"
)
V1 = "(lambda m: (m.total, m.used, m.free))(nvmlDeviceGetMemoryInfo(gpu()))"


@pytest.mark.parametrize("taken", [0, 1, 5 * GIB, 81559 * (1 << 20) - 479 * (1 << 20)])
def test_parts_make_the_whole(state, h100, taken):
    """total = reserved + used + free in version 2; version 1 counts the reserved part as used."""
    assert state.take(0, os.getpid(), taken)

    total, reserved, used, free = h100.ask(V2)
    assert (total, reserved, used) == (81559 << 20, 479 << 20, taken)
    assert total == reserved + used + free
    assert h100.ask(V1) == (total, reserved + used, free)


def test_killed_process_gives_back(state, h100, child):
    """After kill -9 the memory is free and the process gone, though nobody cleaned up."""
    process = child()
    state.take(0, process.pid, 3 * GIB)
    assert h100.ask(V2)[2] == 3 * GIB

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie holds no memory either

    assert h100.ask(V2)[2] == 0
    assert h100.ask("nvmlDeviceGetComputeRunningProcesses(gpu())") == []


def test_wrong_version_of_struct(h100):
    """A struct of an unknown version is refused, not filled."""
    assert h100.ask("nvmlDeviceGetMemoryInfo(gpu(), version=7)") == "ArgumentVersionMismatch"
