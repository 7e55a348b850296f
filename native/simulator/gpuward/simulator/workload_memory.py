"""Where the inference workload's memory comes from: the allocator's replica on a simulated GPU.

The replica takes its segments from the simulated driver's shared state, so that the simulated NVML
shows them under this process, as the real one would.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from gpuward.simulator.allocator import CachingAllocator

if TYPE_CHECKING:
    from gpuward.simulator.allocator import OutOfMemoryObserver
    from gpuward.simulator.allocator_config import AllocatorConfig
    from gpuward.simulator.state import State


class Memory(Protocol):
    """What the engine needs of an allocator; the replica has it, and so has torch's own."""

    @property
    def free_bytes(self) -> int:
        """What the driver could still hand out, to anybody."""
        ...

    def malloc(self, size: int) -> object:
        """Return a buffer; raises ``gpuward.simulator.allocator.OutOfMemory``."""
        ...

    def free(self, buffer: Any) -> None: ...


class SharedDevice:
    """One GPU of the simulated driver, used by this process."""

    def __init__(self, state: State, index: int) -> None:
        self._state = state
        self._index = index
        self._pid = os.getpid()
        gpu = state.gpu(index)
        # cudaMemGetInfo leaves out what the driver keeps for itself.
        self._total_bytes = int(gpu.memory_total_bytes - gpu.memory_reserved_bytes)
        self.uuid = bytes(gpu.uuid).split(b"\0")[0].decode()

    @property
    def index(self) -> int:
        return self._index

    @property
    def total_bytes(self) -> int:
        return self._total_bytes

    @property
    def free_bytes(self) -> int:
        return self._state.free_bytes(self._index)

    def reserve(self, size: int) -> bool:
        return self._state.take(self._index, self._pid, size)

    def release(self, size: int) -> None:
        self._state.give_back(self._index, self._pid, size)

    def close(self) -> None:
        """Give everything back, as the driver does when a process exits."""
        self._state.forget(self._pid)


class ReplicaMemory:
    """Memory from the replica of torch's caching allocator."""

    def __init__(self, device: SharedDevice, config: AllocatorConfig) -> None:
        self._device = device
        self._allocator = CachingAllocator(device, config)
        self.malloc = self._allocator.malloc
        self.free = self._allocator.free
        self.stats = self._allocator.memory_stats
        self.snapshot = self._allocator.snapshot

    @property
    def free_bytes(self) -> int:
        return self._device.free_bytes

    def attach_out_of_memory_observer(self, observer: OutOfMemoryObserver) -> None:
        self._allocator.attach_out_of_memory_observer(observer)
