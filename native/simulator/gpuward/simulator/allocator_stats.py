"""The counters of one device, in the shape of ``torch.cuda.memory_stats_as_nested_dict()``.

Meaning and names: ``torch/cuda/memory.py`` and ``c10/core/CachingDeviceAllocator.h: DeviceStats``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from gpuward.simulator.allocator_config import NO_LIMIT

PoolId = tuple[int, int]


@dataclass(slots=True)
class Stat:
    """A level: ``freed`` is what was ever taken away, that and what is left was ever added."""

    current: int = 0
    peak: int = 0
    freed: int = 0

    def increase(self, amount: int) -> None:
        self.current = current = self.current + amount
        if current > self.peak:  # noqa: PLR1730 - max() takes three times as long
            self.peak = current

    def decrease(self, amount: int) -> None:
        self.current -= amount
        self.freed += amount

    def change(self, amount: int) -> None:
        if amount > 0:
            self.increase(amount)
        else:
            self.decrease(-amount)

    def as_dict(self) -> dict[str, int]:
        return {
            "current": self.current,
            "peak": self.peak,
            "allocated": self.current + self.freed,
            "freed": self.freed,
        }


@dataclass(slots=True)
class Levels:
    """The levels of one pool, or of all together."""

    allocation: Stat = field(default_factory=Stat)
    segment: Stat = field(default_factory=Stat)
    active: Stat = field(default_factory=Stat)
    inactive_split: Stat = field(default_factory=Stat)
    allocated_bytes: Stat = field(default_factory=Stat)
    reserved_bytes: Stat = field(default_factory=Stat)
    active_bytes: Stat = field(default_factory=Stat)
    inactive_split_bytes: Stat = field(default_factory=Stat)
    requested_bytes: Stat = field(default_factory=Stat)


ARRAYS = tuple(one.name for one in fields(Levels))


class DeviceStats:
    """Every counter of one device's allocator."""

    def __init__(self, max_split_size_bytes: int) -> None:
        self._all, self._small, self._large = Levels(), Levels(), Levels()
        self._private: dict[PoolId, dict[str, Stat]] = {}
        self._max_split_size_bytes = max_split_size_bytes
        self.oversize_allocations = Stat()
        self.oversize_segments = Stat()
        self.alloc_retries = 0
        self.ooms = 0
        self.sync_all_streams = 0
        self.device_allocs = 0
        self.device_frees = 0

    @property
    def reserved(self) -> int:
        return self._all.reserved_bytes.current

    @property
    def allocated(self) -> int:
        return self._all.allocated_bytes.current

    def reserved_in(self, private: PoolId) -> int:
        """Return what one private pool has reserved."""
        stats = self._private.get(private)
        return 0 if stats is None else stats["all"].current

    def hand_out(self, size: int, requested: int, *, small: bool) -> None:
        for levels in (self._all, self._small if small else self._large):
            levels.allocation.increase(1)
            levels.allocated_bytes.increase(size)
            levels.active.increase(1)
            levels.active_bytes.increase(size)
            levels.requested_bytes.increase(requested)
        if size >= self._max_split_size_bytes:
            self.oversize_allocations.increase(1)

    def free(self, size: int, *, small: bool) -> None:
        """The program gives a block back; streams may still use it."""
        for levels in (self._all, self._small if small else self._large):
            levels.allocation.decrease(1)
            levels.allocated_bytes.decrease(size)
        if size >= self._max_split_size_bytes:
            self.oversize_allocations.decrease(1)

    def take_back(self, size: int, requested: int, *, small: bool) -> None:
        """A block that was freed can be handed out again."""
        for levels in (self._all, self._small if small else self._large):
            levels.active.decrease(1)
            levels.active_bytes.decrease(size)
            levels.requested_bytes.decrease(requested)

    def change_inactive_split(self, blocks: int, size: int, *, small: bool) -> None:
        for levels in (self._all, self._small if small else self._large):
            levels.inactive_split.change(blocks)
            levels.inactive_split_bytes.change(size)

    def change_segments(self, change: int, size: int, *, small: bool) -> None:
        """Count a segment of ``size`` bytes that comes, ``change`` 1, or goes, -1."""
        for levels in (self._all, self._small if small else self._large):
            levels.segment.change(change)
        if size >= self._max_split_size_bytes:
            self.oversize_segments.change(change)

    def change_reserved(self, amount: int, *, small: bool, private: PoolId | None) -> None:
        """Add ``amount``, negative to take away; ``private``: of that private pool."""
        if amount > 0:
            self.device_allocs += 1
        else:
            self.device_frees += 1
        name = "small_pool" if small else "large_pool"
        for levels in (self._all, self._small if small else self._large):
            levels.reserved_bytes.change(amount)
        if private is not None:
            stats = self._private.setdefault(private, _array())
            stats["all"].change(amount)
            stats[name].change(amount)

    def as_nested_dict(self) -> dict[str, Any]:
        """Return a copy that later changes do not reach."""
        # torch shows "no limit" (the largest size_t) through a signed integer.
        limit = self._max_split_size_bytes
        pools = {"all": self._all, "small_pool": self._small, "large_pool": self._large}
        return {
            "num_alloc_retries": self.alloc_retries,
            "num_ooms": self.ooms,
            "max_split_size": -1 if limit == NO_LIMIT else limit,
            "num_sync_all_streams": self.sync_all_streams,
            "num_device_alloc": self.device_allocs,
            "num_device_free": self.device_frees,
            **{
                name: {pool: getattr(levels, name).as_dict() for pool, levels in pools.items()}
                for name in ARRAYS
            },
            "reserved_bytes_by_private_pools": {
                pool: {name: stat.as_dict() for name, stat in stats.items()}
                for pool, stats in self._private.items()
            },
            "oversize_allocations": self.oversize_allocations.as_dict(),
            "oversize_segments": self.oversize_segments.as_dict(),
            "num_oom_rejections": 0,
        }


def _array() -> dict[str, Stat]:
    return {"all": Stat(), "small_pool": Stat(), "large_pool": Stat()}
