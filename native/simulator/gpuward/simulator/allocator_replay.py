"""Carry out sequences of allocator operations with the replica, and say what came of each.

Operations are lists ``[name, argument...]`` as a JSON file or a pipe carries them, so that torch's
own allocator can be told the very same and can answer the very same; keys and names are the
sequence's.  An operation on a key whose allocation failed does nothing.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from gpuward.simulator.allocator import OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.simulator.allocator import CachingAllocator
    from gpuward.simulator.allocator_blocks import Block
    from gpuward.simulator.allocator_stats import PoolId

COUNTERS = ("num_alloc_retries", "num_ooms", "num_device_alloc", "num_device_free")
LEVELS = ("reserved_bytes", "allocated_bytes", "active_bytes", "inactive_split_bytes")


class Replay:
    """One allocator, and what the sequences until now have left in it."""

    def __init__(self, allocator: CachingAllocator) -> None:
        self._allocator = allocator
        self._blocks: dict[object, Block] = {}
        self._pool_ids: dict[object, PoolId] = {}
        # How often each graph's pool was entered; a MemPool is not in here.
        self._graph_uses: dict[object, int] = {}
        self._ids = count(1)

    def play(self, operations: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return ``steps``, what each returned and a few counters after it, and the end state."""
        steps = [self._step(operation) for operation in operations]
        return {"steps": steps, **self._state()}

    def _step(self, operation: Sequence[Any]) -> list[Any]:
        name, *arguments = operation
        answer = getattr(self, f"_do_{name}")(*arguments)
        stats = self._allocator.memory_stats()
        levels = [stats[level]["all"]["current"] for level in LEVELS]
        return [answer, *(stats[counter] for counter in COUNTERS), *levels]

    def _state(self) -> dict[str, Any]:
        stats = self._allocator.memory_stats()
        # JSON has no tuples for keys; flattened as torch.cuda.memory_stats() does.
        by_pool = {
            f"{first}_{second}": array
            for (first, second), array in stats["reserved_bytes_by_private_pools"].items()
        }
        stats["reserved_bytes_by_private_pools"] = by_pool
        return {"stats": stats, "snapshot": self._allocator.snapshot()}

    def _do_malloc(self, key: object, size: int, stream: int = 0) -> int | None:
        try:
            self._blocks[key] = block = self._allocator.malloc(size, stream)
        except OutOfMemory:
            return None
        return block.address

    def _do_free(self, key: object) -> None:
        if key in self._blocks:
            self._allocator.free(self._blocks.pop(key))

    def _do_record_stream(self, key: object, stream: int) -> None:
        if key in self._blocks:
            self._allocator.record_stream(self._blocks[key], stream)

    def _do_keep_busy(self, stream: int) -> None:
        self._allocator.stream_work.keep_busy(stream)

    def _do_synchronize(self, stream: int) -> None:
        self._allocator.stream_work.synchronize(stream)

    def _do_empty_cache(self) -> dict[str, Any]:
        return {**self._state(), "returned": self._allocator.empty_cache()}

    def _do_set_memory_fraction(self, fraction: float) -> None:
        self._allocator.set_memory_fraction(fraction)

    def _do_new_pool(self, name: object) -> PoolId:
        self._pool_ids[name] = pool_id = (0, next(self._ids))
        self._allocator.private_pools.use(pool_id)
        return pool_id

    def _do_new_graph(self, name: object) -> PoolId:
        self._pool_ids[name] = pool_id = (0, next(self._ids))
        self._graph_uses[name] = 0
        return pool_id

    def _do_enter(self, name: object) -> None:
        self._allocator.private_pools.enter(self._pool_ids[name])
        if name in self._graph_uses:
            self._graph_uses[name] += 1

    def _do_leave(self, name: object) -> None:
        self._allocator.private_pools.leave(self._pool_ids[name])
        if name not in self._graph_uses:
            self._allocator.private_pools.release(self._pool_ids[name])

    def _do_drop(self, name: object) -> None:
        pool_id = self._pool_ids.pop(name)
        graph_uses = self._graph_uses.pop(name, None)
        for _ in range(1 if graph_uses is None else graph_uses):
            self._allocator.private_pools.release(pool_id)
        if graph_uses is None:
            self._allocator.empty_cache(pool_id)
