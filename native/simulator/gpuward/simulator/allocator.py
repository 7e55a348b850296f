"""A replica of torch's CUDA caching allocator: the same blocks, the same counters, no GPU.

Fragmentation lives in the rules by which torch picks, splits, merges and gives back blocks.  This
follows those rules (``c10/cuda/CUDACachingAllocator.cpp``; held to torch 2.14.1 by tests) for one
device, so that a demo or a test can fragment memory exactly as a serving process does and feed the
very same counters to the tap.  Left out: the capture of a graph (its pool is here), checkpoints of
pools, pools that never split, that serve as a last resort or that have an allocator of their own,
sharing between processes, and ``throw_on_cudamalloc_oom``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never, Protocol

from gpuward.simulator import allocator_snapshot, allocator_streams
from gpuward.simulator.allocator_blocks import Block, Pool, merge
from gpuward.simulator.allocator_config import (
    MIB,
    MIN_BLOCK_BYTES,
    SMALL_REQUEST_BYTES,
    AllocatorConfig,
    segment_size,
)
from gpuward.simulator.allocator_pools import DEFAULT_POOL, PrivatePools
from gpuward.simulator.allocator_segments import Segments
from gpuward.simulator.allocator_stats import DeviceStats
from gpuward.simulator.allocator_streams import PendingFrees

if TYPE_CHECKING:
    from gpuward.simulator.allocator_device import Device
    from gpuward.simulator.allocator_pools import PrivatePool
    from gpuward.simulator.allocator_stats import PoolId


class OutOfMemory(Exception):  # noqa: N818 - the name torch's users know, without its prefix
    """A request could not be served; the message is worded as torch words it."""


class OutOfMemoryObserver(Protocol):
    """Called before ``OutOfMemory`` is raised, as torch calls its observers.

    ``device_total`` is what the process may use, where a memory fraction limits it.
    """

    def __call__(self, device: int, asked: int, device_total: int, device_free: int) -> None: ...


class CachingAllocator:
    """The allocator of one device; not for use by several threads at once."""

    def __init__(self, device: Device, config: AllocatorConfig | None = None) -> None:
        self._device = device
        self._config = AllocatorConfig() if config is None else config
        self._stats = DeviceStats(self._config.max_split_size_bytes)
        self._small = Pool(is_small=True)
        self._large = Pool(is_small=False)
        self._active: dict[int, Block] = {}
        self._pending = PendingFrees(self._take_back)
        self._segments = Segments(device, self._config, self._stats, self._pending.work)
        self._observers: list[OutOfMemoryObserver] = []
        self.private_pools = PrivatePools()
        self.stream_work = self._pending.work

    def attach_out_of_memory_observer(self, observer: OutOfMemoryObserver) -> None:
        self._observers.append(observer)

    def malloc(self, size: int, stream: int = 0) -> Block:
        """Return a block for ``size`` bytes; raises ``OutOfMemory``."""
        if self._pending:
            self._pending.process()
        rounded = self._config.round_size(size)
        home = self.private_pools.innermost
        if rounded <= SMALL_REQUEST_BYTES:
            pool = self._small if home is None else home.small
        else:
            pool = self._large if home is None else home.large
        block = self._cached(pool, rounded, stream) or self._from_device(pool, rounded, stream)
        if block is None:
            self._fail(segment_size(rounded, self._config.large_segment_bytes))
        return self._hand_out(block, rounded, size)

    def free(self, block: Block) -> None:
        """Take ``block`` back; it may be handed out again once no other stream uses it."""
        if self._active.get(block.address) is not block or not block.allocated:
            raise ValueError(f"{block} is not allocated here")
        block.allocated = False
        self._stats.free(block.size, small=block.pool.is_small)
        if block.uses is None or not block.uses.streams:
            self._take_back(block)
        else:
            self._pending.add(block)

    def record_stream(self, block: Block, stream: int) -> None:
        """Note that work on ``stream`` uses ``block``: until it is done, a free is pending."""
        allocator_streams.use_on(block, stream)

    def empty_cache(self, pool_id: PoolId = DEFAULT_POOL) -> int:
        """Give every free whole segment, or page, back to the device; return how many bytes.

        ``pool_id``: only those of one private pool that nobody uses any more.
        """
        before = self._stats.reserved
        self._release_cached(pool_id)
        return before - self._stats.reserved

    def set_memory_fraction(self, fraction: float) -> None:
        """Reserve at most this share of the device's memory from now on; 1 is no limit."""
        self._segments.limit_to(fraction)

    def memory_stats(self) -> dict[str, Any]:
        return self._stats.as_nested_dict()

    def snapshot(self) -> list[dict[str, Any]]:
        pools = [self._small, self._large]
        pools += [pool for private in self.private_pools for pool in (private.small, private.large)]
        blocks = [block for pool in pools for block in pool.free]
        return allocator_snapshot.describe([*blocks, *self._active.values()], self._device.index)

    # From the cache.

    def _cached(self, pool: Pool, size: int, stream: int) -> Block | None:
        if self._segments.collects_garbage:
            pool.lookups += 1
        index = pool.free.first_at_least((stream, size, 0))
        if index == len(pool.free) or pool.free[index].stream != stream:
            return None
        if self._config.expandable_segments:
            index = _least_expandable(pool, index, stream)
        block = pool.free[index]
        limit = self._config.max_split_size_bytes
        if size < limit <= block.size:
            return None
        if size >= limit and block.size >= size + self._config.max_non_split_rounding_bytes:
            return None
        pool.free.remove(block)
        return block

    # From the device.

    def _from_device(self, pool: Pool, size: int, stream: int) -> Block | None:
        if self._segments.collects_garbage:
            self._segments.collect_garbage(self._large)
        block = self._segments.new_block(pool, size, stream)
        if block is None and self._segments.release_oversize(pool, size, stream):
            block = self._segments.new_block(pool, size, stream)
        if block is None:
            self._release_cached(DEFAULT_POOL)
            self._stats.alloc_retries += 1
            block = self._segments.new_block(pool, size, stream)
        return block

    # Handing out and taking back.

    def _hand_out(self, block: Block, size: int, requested: int) -> Block:
        was_split = block.is_split
        if self._should_split(block, size):
            block = self._split(block, size, was_split=was_split)
        elif was_split and block.expandable is None:
            self._change_inactive_split(block.pool, -1, -block.size)
        block.allocated = block.active = True
        block.requested = requested
        self._active[block.address] = block
        self._stats.hand_out(block.size, requested, small=block.pool.is_small)
        return block

    def _should_split(self, block: Block, size: int) -> bool:
        rest = block.size - size
        if block.pool.is_small or self._config.expandable_segments:
            return rest >= MIN_BLOCK_BYTES
        return size < self._config.max_split_size_bytes and rest > SMALL_REQUEST_BYTES

    def _split(self, rest: Block, size: int, *, was_split: bool) -> Block:
        """Cut ``size`` bytes off the front of ``rest``, whose remainder stays free."""
        pool = rest.pool
        block = Block(pool, rest.stream, rest.address, size, expandable=rest.expandable)
        block.insert_before(rest)
        rest.address += size
        rest.size -= size
        rest.listed_at = pool.lookups
        pool.free.add(rest)
        if rest.expandable is None and was_split:
            self._change_inactive_split(pool, 0, -size)
        elif rest.expandable is None:
            self._change_inactive_split(pool, 1, rest.size)
        return block

    def _take_back(self, block: Block) -> None:
        """Let a block that neither the program nor a stream uses be handed out again."""
        pool = block.pool
        del self._active[block.address]
        block.active = False
        self._stats.take_back(block.size, block.requested, small=pool.is_small)
        blocks, size = 0, 0
        for neighbour in (block.previous, block.next):
            if won := merge(block, neighbour):
                blocks, size = blocks - 1, size - won
        block.listed_at = pool.lookups
        pool.free.add(block)
        if block.is_split:
            blocks, size = blocks + 1, size + block.size
        if block.expandable is None:
            self._change_inactive_split(pool, blocks, size)

    def _change_inactive_split(self, pool: Pool, blocks: int, size: int) -> None:
        # Expandable segments never come here: their free pages can always be given back.
        self._stats.change_inactive_split(blocks, size, small=pool.is_small)

    # Giving back to the device.

    def _release_cached(self, pool_id: PoolId) -> None:
        if pool_id == DEFAULT_POOL:
            self._synchronize()
            self._segments.release_free(self._large)
            self._segments.release_free(self._small)
        for private in self.private_pools.unused(pool_id):
            if pool_id != DEFAULT_POOL:
                self._synchronize(private)
            self._segments.release_free(private.small)
            self._segments.release_free(private.large)
            if self._stats.reserved_in(private.pool_id) == 0:
                self.private_pools.forget(private)

    def _synchronize(self, pool: PrivatePool | None = None) -> None:
        self._stats.sync_all_streams += 1
        self._pending.synchronize(pool)

    def _fail(self, asked: int) -> Never:
        self._stats.ooms += 1
        device, allowed = self._device, self._segments.allowed_bytes
        total = device.total_bytes if allowed is None else allowed
        for observer in self._observers:
            observer(device.index, asked, total, device.free_bytes)
        raise OutOfMemory(_complaint(asked, device, self._stats))


def _least_expandable(pool: Pool, index: int, stream: int) -> int:
    # A free block that unmapped addresses follow counts as large as it can become, so that
    # the end of an expandable segment is used last.
    while index + 1 < len(pool.free):
        following = pool.free[index + 1]
        if following.stream != stream:
            break
        if _expandable_size(following) >= _expandable_size(pool.free[index]):
            break
        index += 1
    return index


def _expandable_size(block: Block) -> int:
    following = block.next
    return block.size + (following.size if following is not None and not following.mapped else 0)


def _complaint(asked: int, device: Device, stats: DeviceStats) -> str:
    allocated, reserved = stats.allocated, stats.reserved
    return (
        f"CUDA out of memory. Tried to allocate {asked / MIB:.2f} MiB. GPU {device.index} has "
        f"a total capacity of {device.total_bytes / MIB:.2f} MiB of which "
        f"{device.free_bytes / MIB:.2f} MiB is free. Of the allocated memory "
        f"{allocated / MIB:.2f} MiB is allocated by PyTorch, and "
        f"{(reserved - allocated) / MIB:.2f} MiB is reserved by PyTorch but unallocated."
    )
