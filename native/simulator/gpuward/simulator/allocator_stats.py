"""The counters of one device, in the shape of ``torch.cuda.memory_stats_as_nested_dict()``.

Meaning and names: ``torch/cuda/memory.py`` and ``c10/core/CachingDeviceAllocator.h: DeviceStats``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpuward.simulator.allocator_config import NO_LIMIT

ARRAYS = (
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


@dataclass(slots=True)
class Stat:
    """A level: ``allocated`` and ``freed`` are what was ever added and taken away."""

    current: int = 0
    peak: int = 0
    allocated: int = 0
    freed: int = 0

    def change(self, amount: int) -> None:
        self.current += amount
        if amount > 0:
            self.allocated += amount
            self.peak = max(self.peak, self.current)
        else:
            self.freed -= amount

    def as_dict(self) -> dict[str, int]:
        return {
            "current": self.current,
            "peak": self.peak,
            "allocated": self.allocated,
            "freed": self.freed,
        }


class DeviceStats:
    """Every counter of one device's allocator."""

    def __init__(self, max_split_size_bytes: int) -> None:
        self._arrays = {
            name: {"all": Stat(), "small_pool": Stat(), "large_pool": Stat()} for name in ARRAYS
        }
        self._max_split_size_bytes = max_split_size_bytes
        self.oversize_allocations = Stat()
        self.oversize_segments = Stat()
        self.alloc_retries = 0
        self.ooms = 0
        self.sync_all_streams = 0
        self.device_allocs = 0
        self.device_frees = 0

    def change(self, name: str, amount: int, *, small: bool) -> None:
        """Add ``amount``, negative to take away, to the level ``name`` of one pool and of all."""
        pools = self._arrays[name]
        pools["all"].change(amount)
        pools["small_pool" if small else "large_pool"].change(amount)

    def current(self, name: str) -> int:
        return self._arrays[name]["all"].current

    def as_nested_dict(self) -> dict[str, Any]:
        """Return a copy that later changes do not reach."""
        # torch shows "no limit" (the largest size_t) through a signed integer.
        limit = self._max_split_size_bytes
        return {
            "num_alloc_retries": self.alloc_retries,
            "num_ooms": self.ooms,
            "max_split_size": -1 if limit == NO_LIMIT else limit,
            "num_sync_all_streams": self.sync_all_streams,
            "num_device_alloc": self.device_allocs,
            "num_device_free": self.device_frees,
            **{
                name: {pool: stat.as_dict() for pool, stat in pools.items()}
                for name, pools in self._arrays.items()
            },
            "oversize_allocations": self.oversize_allocations.as_dict(),
            "oversize_segments": self.oversize_segments.as_dict(),
            "num_oom_rejections": 0,
        }
