"""Private pools: memory set apart for a CUDA graph, or for what ``use_mem_pool`` encloses.

While a pool is entered, everything is allocated from it.  Its memory goes back to the device only
when nobody uses the pool any more, so until then its free blocks help no other request.  Rules:
``PrivatePool``, ``beginAllocateToPool``, ``releasePool`` and ``release_cached_blocks`` of
``CUDACachingAllocator.cpp``.  One thing is not followed: with expandable segments torch 2.14.1 can
forget a released pool whose tensors are still there, and then uses memory that it has freed itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.simulator.allocator_blocks import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.simulator.allocator_stats import PoolId

# How torch names the memory that belongs to no private pool.
DEFAULT_POOL = (0, 0)


class PrivatePool:
    """The free blocks of one private pool; ``uses`` counts the graphs and others that keep it."""

    def __init__(self, pool_id: PoolId) -> None:
        self.pool_id = pool_id
        self.small = Pool(is_small=True, private=self)
        self.large = Pool(is_small=False, private=self)
        self.uses = 1


class PrivatePools:
    """The private pools of one device, and which of them are entered."""

    def __init__(self) -> None:
        self._pools: dict[PoolId, PrivatePool] = {}
        self._entered: list[PrivatePool] = []
        # What is allocated now comes from here; ``None``: from no private pool.
        self.innermost: PrivatePool | None = None

    def __iter__(self) -> Iterator[PrivatePool]:
        return iter(self._pools.values())

    def use(self, pool_id: PoolId) -> PrivatePool:
        """Return the pool, made when it is not there, with one use more."""
        pool = self._pools.get(pool_id)
        if pool is None:
            pool = self._pools[pool_id] = PrivatePool(pool_id)
            return pool
        if pool.uses == 0:
            raise ValueError(f"private pool {pool_id} was released")
        pool.uses += 1
        return pool

    def enter(self, pool_id: PoolId) -> None:
        pool = self.use(pool_id)
        if pool in self._entered:
            raise ValueError(f"private pool {pool_id} is entered already")
        self._entered.append(pool)
        self.innermost = pool

    def leave(self, pool_id: PoolId) -> None:
        """Allocate elsewhere again; the use that entering was stays until it is released."""
        pool = self._pools.get(pool_id)
        if pool is None or pool not in self._entered:
            raise ValueError(f"private pool {pool_id} is not entered")
        self._entered.remove(pool)
        self.innermost = self._entered[-1] if self._entered else None

    def release(self, pool_id: PoolId) -> None:
        """End one use; of a pool without any, ``empty_cache`` gives the free memory back."""
        pool = self._pools.get(pool_id)
        if pool is None or pool.uses == 0:
            raise ValueError(f"private pool {pool_id} is not in use")
        pool.uses -= 1

    def unused(self, pool_id: PoolId) -> list[PrivatePool]:
        """Return the pools without a use: all of them, or only ``pool_id`` when it names one."""
        return [
            pool
            for pool in self._pools.values()
            if pool.uses == 0 and pool_id in (DEFAULT_POOL, pool.pool_id)
        ]

    def forget(self, pool: PrivatePool) -> None:
        del self._pools[pool.pool_id]
