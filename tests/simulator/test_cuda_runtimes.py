"""Both CUDA runtimes, of version 13 and of version 12, on the same simulated driver."""

import json
import subprocess
import sys

import pytest

from gpuward.simulator.libraries import environment

pytestmark = pytest.mark.simulator

PROGRAM = """
import ctypes, json, sys
runtime = ctypes.CDLL(sys.argv[1])
count, version, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
status = [runtime.cudaGetDeviceCount(ctypes.byref(count))]
status.append(runtime.cudaRuntimeGetVersion(ctypes.byref(version)))
status.append(runtime.cudaMalloc(ctypes.byref(memory), ctypes.c_size_t(1 << 20)))
events = [ctypes.c_void_p(), ctypes.c_void_p()]
for event in events:
    status.append(runtime.cudaEventCreate(ctypes.byref(event)))
    status.append(runtime.cudaEventRecord(event, None))
milliseconds = ctypes.c_float(-1)
status.append(runtime.cudaEventElapsedTime(ctypes.byref(milliseconds), *events))
print(json.dumps([status, count.value, version.value // 1000, milliseconds.value >= 0]))
"""


@pytest.mark.parametrize("major", [12, 13])
def test_runtime(libraries, state, tmp_path, major):
    """Devices, memory and events work; the version is the runtime's own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(libraries / f"libcudart.so.{major}")],
        env=environment(state.path, tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout) == [[0] * 8, 8, major, True]
