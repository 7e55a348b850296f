"""A replica of torch's CUDA caching allocator: the same blocks, the same counters, no GPU.

Fragmentation lives in the rules by which torch picks, splits, merges and gives back blocks.  This
follows those rules (``c10/cuda/CUDACachingAllocator.cpp`` of torch 2.9 and the constants of 2.13)
for one device, so that a demo or a test can fragment memory exactly as a serving process does and
feed the very same counters to the tap.  Left out: record_stream, private pools, graph capture,
memory fraction and garbage collection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never, Protocol

from gpuward.simulator import allocator_snapshot
from gpuward.simulator.allocator_blocks import Block, Pool, merge
from gpuward.simulator.allocator_config import (
    LARGE_SEGMENT_BYTES,
    MAX_NON_SPLIT_ROUNDING_BYTES,
    MIB,
    MIN_BLOCK_BYTES,
    NO_LIMIT,
    SMALL_REQUEST_BYTES,
    SMALL_SEGMENT_BYTES,
    AllocatorConfig,
    segment_size,
)
from gpuward.simulator.allocator_expandable import ExpandableMemory
from gpuward.simulator.allocator_stats import DeviceStats

if TYPE_CHECKING:
    from gpuward.simulator.allocator_device import Device

# Where addresses begin: GPU addresses are large, and never 0.
FIRST_ADDRESS = 0x7F00_0000_0000


class OutOfMemory(Exception):  # noqa: N818 - the name torch's users know, without its prefix
    """A request could not be served; the message is worded as torch words it."""


class OutOfMemoryObserver(Protocol):
    """Called before ``OutOfMemory`` is raised, as torch calls its observers."""

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
        self._next_address = FIRST_ADDRESS
        self._expandable = ExpandableMemory(device, self._stats, self._new_addresses)
        self._observers: list[OutOfMemoryObserver] = []

    def attach_out_of_memory_observer(self, observer: OutOfMemoryObserver) -> None:
        self._observers.append(observer)

    def malloc(self, size: int, stream: int = 0) -> Block:
        """Return a block for ``size`` bytes; raises ``OutOfMemory``."""
        rounded = self._config.round_size(size)
        pool = self._small if rounded <= SMALL_REQUEST_BYTES else self._large
        block = self._cached(pool, rounded, stream) or self._from_device(pool, rounded, stream)
        if block is None:
            self._fail(segment_size(rounded))
        return self._hand_out(block, rounded, size)

    def free(self, block: Block) -> None:
        """Take ``block`` back; it may be handed out again at once."""
        if self._active.pop(block.address, None) is not block:
            raise ValueError(f"{block} is not allocated here")
        small, size = block.pool.is_small, block.size
        for name, amount in (
            ("allocation", 1),
            ("allocated_bytes", size),
            ("active", 1),
            ("active_bytes", size),
            ("requested_bytes", block.requested),
        ):
            self._stats.change(name, -amount, small=small)
        if size >= self._config.max_split_size_bytes:
            self._stats.oversize_allocations.change(-1)
        block.allocated = False
        self._return_to_pool(block)

    def empty_cache(self) -> int:
        """Give every free whole segment, or page, back to the device; return how many bytes."""
        before = self._stats.current("reserved_bytes")
        self._release_cached()
        return before - self._stats.current("reserved_bytes")

    def memory_stats(self) -> dict[str, Any]:
        return self._stats.as_nested_dict()

    def snapshot(self) -> list[dict[str, Any]]:
        blocks = [*self._small.free, *self._large.free, *self._active.values()]
        return allocator_snapshot.describe(blocks, self._device.index)

    # From the cache.

    def _cached(self, pool: Pool, size: int, stream: int) -> Block | None:
        index = pool.free.first_at_least((stream, size, 0))
        if index == len(pool.free) or pool.free[index].stream != stream:
            return None
        block = pool.free[self._least_expandable(pool, index, stream)]
        limit = self._config.max_split_size_bytes
        if size < limit <= block.size:
            return None
        if size >= limit and block.size >= size + MAX_NON_SPLIT_ROUNDING_BYTES:
            return None
        pool.free.remove(block)
        return block

    def _least_expandable(self, pool: Pool, index: int, stream: int) -> int:
        # A free block that unmapped addresses follow counts as large as it can become, so that
        # the end of an expandable segment is used last.
        if not self._config.expandable_segments:
            return index
        while index + 1 < len(pool.free):
            following = pool.free[index + 1]
            if following.stream != stream:
                break
            if _expandable_size(following) >= _expandable_size(pool.free[index]):
                break
            index += 1
        return index

    # From the device.

    def _from_device(self, pool: Pool, size: int, stream: int) -> Block | None:
        block = self._new_block(pool, size, stream)
        if block is None and self._release_oversize(pool, size, stream):
            block = self._new_block(pool, size, stream)
        if block is None:
            self._release_cached()
            self._stats.alloc_retries += 1
            block = self._new_block(pool, size, stream)
        return block

    def _new_block(self, pool: Pool, size: int, stream: int) -> Block | None:
        if self._config.expandable_segments:
            page = SMALL_SEGMENT_BYTES if pool.is_small else LARGE_SEGMENT_BYTES
            return self._expandable.grow(pool, size, stream, page)
        asked = segment_size(size)
        if not self._device.reserve(asked):
            return None
        self._stats.change("segment", 1, small=pool.is_small)
        self._stats.change("reserved_bytes", asked, small=pool.is_small)
        if asked >= self._config.max_split_size_bytes:
            self._stats.oversize_segments.change(1)
        self._stats.device_allocs += 1
        return Block(pool, stream, self._new_addresses(asked), asked)

    def _new_addresses(self, size: int) -> int:
        address = self._next_address
        self._next_address += size
        return address

    # Handing out and taking back.

    def _hand_out(self, block: Block, size: int, requested: int) -> Block:
        was_split = block.is_split
        if self._should_split(block, size):
            block = self._split(block, size, was_split=was_split)
        elif was_split and block.expandable is None:
            self._change_inactive_split(block.pool, -1, -block.size)
        block.allocated, block.requested = True, requested
        self._active[block.address] = block
        for name, amount in (
            ("allocation", 1),
            ("allocated_bytes", block.size),
            ("active", 1),
            ("active_bytes", block.size),
            ("requested_bytes", requested),
        ):
            self._stats.change(name, amount, small=block.pool.is_small)
        if block.size >= self._config.max_split_size_bytes:
            self._stats.oversize_allocations.change(1)
        return block

    def _should_split(self, block: Block, size: int) -> bool:
        rest = block.size - size
        if block.pool.is_small or self._config.expandable_segments:
            return rest >= MIN_BLOCK_BYTES
        return size < self._config.max_split_size_bytes and rest > SMALL_REQUEST_BYTES

    def _split(self, rest: Block, size: int, *, was_split: bool) -> Block:
        """Cut ``size`` bytes off the front of ``rest``, whose remainder stays free."""
        block = Block(rest.pool, rest.stream, rest.address, size, expandable=rest.expandable)
        block.insert_before(rest)
        rest.address += size
        rest.size -= size
        rest.pool.free.add(rest)
        if rest.expandable is None and was_split:
            self._change_inactive_split(rest.pool, 0, -size)
        elif rest.expandable is None:
            self._change_inactive_split(rest.pool, 1, rest.size)
        return block

    def _return_to_pool(self, block: Block) -> None:
        blocks, size = 0, 0
        for neighbour in (block.previous, block.next):
            if won := merge(block, neighbour):
                blocks, size = blocks - 1, size - won
        block.pool.free.add(block)
        if block.is_split:
            blocks, size = blocks + 1, size + block.size
        if block.expandable is None:
            self._change_inactive_split(block.pool, blocks, size)

    def _change_inactive_split(self, pool: Pool, blocks: int, size: int) -> None:
        # Expandable segments never come here: their free pages can always be given back.
        self._stats.change("inactive_split", blocks, small=pool.is_small)
        self._stats.change("inactive_split_bytes", size, small=pool.is_small)

    # Giving back to the device.

    def _release_oversize(self, pool: Pool, size: int, stream: int) -> bool:
        """Give back just enough oversize blocks for ``size`` bytes; false when too few."""
        limit = self._config.max_split_size_bytes
        if limit == NO_LIMIT:
            return False
        wanted = max(size, limit)
        index = pool.free.first_at_least((stream, wanted, 0))
        if index < len(pool.free):
            block = pool.free[index]
            if block.stream == stream and block.expandable is None:
                self._release_block(block)
                return True
        released = 0
        for block in reversed([*pool.free][:index]):
            if released >= wanted or block.size < limit or block.stream != stream:
                break
            if block.expandable is None:
                released += block.size
                self._release_block(block)
        return released >= wanted

    def _release_cached(self) -> None:
        self._stats.sync_all_streams += 1
        for pool in (self._large, self._small):
            blocks = list(pool.free)
            for block in blocks:
                if block.expandable is None and not block.is_split:
                    self._release_block(block)
            for block in blocks:
                if block.expandable is not None:
                    self._expandable.shrink(block)

    def _release_block(self, block: Block) -> None:
        block.pool.free.remove(block)
        self._device.release(block.size)
        self._stats.device_frees += 1
        self._stats.change("segment", -1, small=block.pool.is_small)
        self._stats.change("reserved_bytes", -block.size, small=block.pool.is_small)
        if block.size >= self._config.max_split_size_bytes:
            self._stats.oversize_segments.change(-1)

    def _fail(self, asked: int) -> Never:
        self._stats.ooms += 1
        for observer in self._observers:
            observer(self._device.index, asked, self._device.total_bytes, self._device.free_bytes)
        raise OutOfMemory(_complaint(asked, self._device, self._stats))


def _expandable_size(block: Block) -> int:
    following = block.next
    return block.size + (following.size if following is not None and not following.mapped else 0)


def _complaint(asked: int, device: Device, stats: DeviceStats) -> str:
    allocated, reserved = stats.current("allocated_bytes"), stats.current("reserved_bytes")
    return (
        f"CUDA out of memory. Tried to allocate {asked / MIB:.2f} MiB. GPU {device.index} has "
        f"a total capacity of {device.total_bytes / MIB:.2f} MiB of which "
        f"{device.free_bytes / MIB:.2f} MiB is free. Of the allocated memory "
        f"{allocated / MIB:.2f} MiB is allocated by PyTorch, and "
        f"{(reserved - allocated) / MIB:.2f} MiB is reserved by PyTorch but unallocated."
    )
