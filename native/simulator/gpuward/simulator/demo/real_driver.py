"""Is there an NVIDIA driver on this machine that answers?  Asked in a process of its own.

A driver can hang, and a call into it then never returns; the demo must start all the same.
"""

from __future__ import annotations

import ctypes
import sys

from gpuward.daemon import subprocesses

ANSWER_WITHIN_S = 5.0
NVML_SUCCESS = 0


async def gpu_count() -> int:
    """Return how many GPUs the machine's driver knows; 0 without a driver that answers."""
    argv = (sys.executable, "-m", "gpuward.simulator.demo.real_driver")
    finished = await subprocesses.run(argv, timeout_s=ANSWER_WITHIN_S)
    text = finished.stdout.decode().strip()
    return int(text) if finished.returncode == 0 and text.isdecimal() else 0


def _ask() -> int:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return 0
    count = ctypes.c_uint()
    if nvml.nvmlInit_v2() != NVML_SUCCESS:
        return 0
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != NVML_SUCCESS:
        return 0
    return count.value


if __name__ == "__main__":
    sys.stdout.write(f"{_ask()}\n")
