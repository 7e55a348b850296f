"""Process lists of every kind and version."""

import os
from pathlib import Path

import pytest

from gpuward.simulator.layout import ProcessKind

pytestmark = pytest.mark.simulator

LIST = "[(p.pid, p.usedGpuMemory) for p in {}(gpu(1))]"
KINDS = {
    ProcessKind.COMPUTE: "Compute",
    ProcessKind.GRAPHICS: "Graphics",
    ProcessKind.MPS: "MPSCompute",
}
# Fill a C array of `size` entries of `bytes` and return (status, count, first pid, first memory).
RAW = (
    "(lambda n, a: (call('{name}', gpu(1), byref(n), a), n.value, "
    "c_uint.from_buffer(a, 0).value, c_ulonglong.from_buffer(a, 8).value))"
    "(c_uint({room}), (c_char * ({size} * 4))())"
)


@pytest.mark.parametrize("kind", list(KINDS))
def test_kinds_are_apart(state, h100, kind):
    """A process is in the list of its kind, and in no other."""
    state.take(1, os.getpid(), 1000, kind)

    for other, name in KINDS.items():
        expected = [(os.getpid(), 1000)] if other == kind else []
        assert h100.ask(LIST.format(f"nvmlDeviceGet{name}RunningProcesses")) == expected


@pytest.mark.parametrize(
    ("version", "size"),
    [("", 16), ("_v2", 24), ("_v3", 24)],
)
def test_versions(state, h100, version, size):
    """Every version fills its own struct."""
    state.take(1, os.getpid(), 1000)
    name = f"nvmlDeviceGetComputeRunningProcesses{version}"

    assert h100.ask(RAW.format(name=name, room=4, size=size)) == (0, 1, os.getpid(), 1000)


def test_too_small_array(state, h100, child):
    """An array that is too small is left alone, and the count says what is needed."""
    for _ in range(2):
        state.take(1, child().pid, 1000)
    name = "nvmlDeviceGetComputeRunningProcesses_v3"

    assert h100.ask(RAW.format(name=name, room=1, size=24)) == (7, 2, 0, 0)


def test_detail_list(state, h100):
    """The newest call returns the processes of a mode, and checks its version."""
    state.take(1, os.getpid(), 1000)
    asked = (
        "[(p.pid, p.usedGpuMemory) for p in nvmlDeviceGetRunningProcessDetailList(gpu(1), {}, {})]"
    )

    version = "nvmlProcessDetailList_v1"
    assert h100.ask(asked.format(version, 0)) == [(os.getpid(), 1000)]
    assert h100.ask(asked.format(version, 3)) == [(os.getpid(), 1000)]
    assert h100.ask(asked.format(version, 1)) == []
    assert h100.ask(asked.format(7, 0)) == "ArgumentVersionMismatch"


def test_utilization(state, h100):
    """Without processes NVML says NOT_FOUND; with one, how busy it keeps the GPU."""
    asked = "[(s.pid, s.smUtil, s.memUtil) for s in nvmlDeviceGetProcessUtilization(gpu(1), 0)]"
    assert h100.ask(asked) == "NotFound"

    state.take(1, os.getpid(), 1000)
    state.set_utilization(1, os.getpid(), sm_percent=37, memory_percent=12)
    assert h100.ask(asked) == [(os.getpid(), 37, 12)]


def test_name(h100):
    """The name of a process is its executable's path; no process, no name."""
    assert h100.ask(f"nvmlSystemGetProcessName({os.getpid()})") == str(
        Path("/proc/self/exe").readlink()
    )
    assert h100.ask(f"nvmlSystemGetProcessName({2**22 + 1})") == "NotFound"
