"""Segments: what the allocator asks of the device, and when it gives which of them back.

``cudaMalloc`` is slow and ``cudaFree`` stops the whole device, so both are put off.  Rules:
``alloc_block``, ``release_available_cached_blocks``, ``garbage_collect_cached_blocks`` and
``release_blocks`` of ``CUDACachingAllocator.cpp``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.simulator.allocator_blocks import Block
from gpuward.simulator.allocator_config import NO_LIMIT, SMALL_SEGMENT_BYTES, segment_size
from gpuward.simulator.allocator_expandable import ExpandableMemory

if TYPE_CHECKING:
    from gpuward.simulator.allocator_blocks import Pool
    from gpuward.simulator.allocator_config import AllocatorConfig
    from gpuward.simulator.allocator_device import Device
    from gpuward.simulator.allocator_stats import DeviceStats
    from gpuward.simulator.allocator_streams import StreamWork

# Where addresses begin: GPU addresses are large, and never 0.
FIRST_ADDRESS = 0x7F00_0000_0000


class Segments:
    """The memory that the allocator of one device has reserved."""

    def __init__(
        self, device: Device, config: AllocatorConfig, stats: DeviceStats, work: StreamWork
    ) -> None:
        self._device = device
        self._config = config
        self._stats = stats
        self._work = work
        self._next_address = FIRST_ADDRESS
        self._expandable = ExpandableMemory(device, stats, work, self._new_addresses)
        # ``None``: all of the device.
        self.allowed_bytes: int | None = None
        self.collects_garbage = False
        self.limit_to(config.per_process_memory_fraction)

    def limit_to(self, fraction: float) -> None:
        self.allowed_bytes = int(fraction * self._device.total_bytes) if fraction < 1 else None
        threshold = self._config.garbage_collection_threshold
        self.collects_garbage = self.allowed_bytes is not None and threshold > 0

    def new_block(self, pool: Pool, size: int, stream: int) -> Block | None:
        """Return a block of at least ``size`` bytes that no pool lists, from the device."""
        asked = segment_size(size, self._config.large_segment_bytes)
        if self.allowed_bytes is not None and self._stats.reserved + asked > self.allowed_bytes:
            return None
        if self._config.expandable_segments:
            page = SMALL_SEGMENT_BYTES if pool.is_small else self._config.large_segment_bytes
            return self._expandable.grow(pool, size, stream, page)
        return self._new_segment(pool, asked, stream)

    def release_oversize(self, pool: Pool, size: int, stream: int) -> bool:
        """Give back just enough oversize blocks for ``size`` bytes; false when too few."""
        limit = self._config.max_split_size_bytes
        if limit == NO_LIMIT:
            return False
        wanted = max(size, limit)
        index = pool.free.first_at_least((stream, wanted, 0))
        if index < len(pool.free):
            block = pool.free[index]
            if block.stream == stream and block.expandable is None:
                self._release(block)
                return True
        released = 0
        for block in reversed([*pool.free][:index]):
            if released >= wanted or block.size < limit or block.stream != stream:
                break
            if block.expandable is None:
                released += block.size
                self._release(block)
        return released >= wanted

    def release_free(self, pool: Pool) -> None:
        """Give back every whole free segment of ``pool``, and every whole free page."""
        blocks = list(pool.free)
        for block in blocks:
            if block.expandable is None and not block.is_split:
                self._release(block)
        for block in blocks:
            if block.expandable is not None:
                self._expandable.shrink(block)

    def collect_garbage(self, pool: Pool) -> None:
        """Give back segments that were free for longest, until enough is reserved no more.

        Longest is at least the mean; all such go, even when fewer would do.
        """
        if self.allowed_bytes is None:
            return
        threshold = int(self._config.garbage_collection_threshold * self.allowed_bytes)
        surplus = self._stats.reserved - threshold
        whole = {block: pool.lookups - block.listed_at for block in pool.free if not block.is_split}
        while surplus > 0 and whole:
            mean_age = sum(whole.values()) / len(whole)
            oldest = [block for block, age in whole.items() if age >= mean_age]
            for block in oldest:
                del whole[block]
                surplus -= block.size
                self._release(block)

    def _new_segment(self, pool: Pool, asked: int, stream: int) -> Block | None:
        if not self._device.reserve(asked):
            return None
        self._stats.change_segments(1, asked, small=pool.is_small)
        self._stats.change_reserved(asked, small=pool.is_small, private=pool.private_id)
        return Block(pool, stream, self._new_addresses(asked), asked)

    def _release(self, block: Block) -> None:
        pool, size = block.pool, block.size
        pool.free.remove(block)
        self._device.release(size)
        # cudaFree waits for the device.
        self._work.synchronize_all()
        self._stats.change_segments(-1, size, small=pool.is_small)
        self._stats.change_reserved(-size, small=pool.is_small, private=pool.private_id)

    def _new_addresses(self, size: int) -> int:
        address = self._next_address
        self._next_address += size
        return address
