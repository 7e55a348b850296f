"""Print what NVML says of a GPU's memory; runs under gpuward's own interpreter."""

import json
import sys

import pynvml

pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(int(sys.argv[1]))
memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
answer = {
    "uuid": pynvml.nvmlDeviceGetUUID(handle),
    "used": memory.used,
    "free": memory.free,
    "total": memory.total,
    "processes": {process.pid: process.usedGpuMemory for process in processes},
}
json.dump(answer, sys.stdout)
