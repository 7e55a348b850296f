"""Hold some memory of the second simulated GPU, with the tap, until killed; `READY` says when."""

import asyncio
import os
from pathlib import Path

from gpuward.daemon.clock import SystemClock
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.state import State
from gpuward.simulator.workload_memory import ReplicaMemory, SharedDevice
from gpuward.simulator.workload_publish import ReplicaTap

device = SharedDevice(State.open(), 1)
memory = ReplicaMemory(device, AllocatorConfig.parse(""))
block = memory.malloc(100 << 20)
tap = ReplicaTap(Path(os.environ["GPUWARD_TAP_DIR"]), device.uuid, memory.stats, conf="")
Path(os.environ["READY"]).touch()
asyncio.run(tap.run(SystemClock()))
