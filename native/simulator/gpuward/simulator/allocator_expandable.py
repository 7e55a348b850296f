"""Expandable segments: one large range of addresses per pool and stream, backed page by page.

With ``expandable_segments:True`` the allocator reserves address space for more than the whole GPU,
maps pages at the lowest unmapped address, and unmaps whole free pages anywhere to give memory back.
Rules: ``ExpandableSegment``, ``find_expandable_block``, ``map_block`` and ``unmap_block`` of
``CUDACachingAllocator.cpp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.simulator.allocator_blocks import Block, merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.simulator.allocator_blocks import Pool
    from gpuward.simulator.allocator_device import Device
    from gpuward.simulator.allocator_stats import DeviceStats
    from gpuward.simulator.allocator_streams import StreamWork


@dataclass(frozen=True, slots=True)
class ExpandableSegment:
    """A range of addresses; memory comes and goes in whole pages."""

    address: int
    size: int
    page_bytes: int

    def pages_covering(self, address: int, size: int) -> tuple[int, int]:
        """Return begin and end of the smallest run of pages that holds the range."""
        first = (address - self.address) // self.page_bytes
        behind = -((self.address - address - size) // self.page_bytes)
        return self._at(first), self._at(behind)

    def pages_inside(self, address: int, size: int) -> tuple[int, int]:
        """Return begin and end of the pages that lie wholly in the range; begin >= end: none."""
        first = -((self.address - address) // self.page_bytes)
        behind = (address + size - self.address) // self.page_bytes
        return self._at(first), self._at(behind)

    def _at(self, page: int) -> int:
        return self.address + page * self.page_bytes


class ExpandableMemory:
    """Maps and unmaps pages for the free blocks of expandable segments."""

    def __init__(
        self,
        device: Device,
        stats: DeviceStats,
        work: StreamWork,
        new_addresses: Callable[[int], int],
    ) -> None:
        self._device = device
        self._stats = stats
        self._work = work
        self._new_addresses = new_addresses

    def grow(self, pool: Pool, size: int, stream: int, page_bytes: int) -> Block | None:
        """Return a block of at least ``size`` bytes taken out of ``pool``, mapping what it lacks.

        ``None`` when the device has too little; what was mapped until then stays free in the pool.
        """
        block = self._lowest_room(pool, size, stream) or self._reserve(pool, stream, page_bytes)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            unmapped = block.next
            if unmapped is None:
                raise AssertionError("address space ended before the room that was found")
            if not self._map(unmapped, min(size - block.size, unmapped.size)):
                return None
            block = unmapped
        pool.free.remove(block)
        return block

    def shrink(self, block: Block) -> None:
        """Unmap the whole pages inside a free block; what is left of it stays free."""
        begin, end = _segment_of(block).pages_inside(block.address, block.size)
        if begin >= end:
            return
        block.pool.free.remove(block)
        self._keep_edges(block, begin, end)
        block.address, block.size, block.mapped = begin, end - begin, False
        merge(block, block.previous)
        merge(block, block.next)
        if block.is_split:
            block.pool.unmapped.add(block)
        # torch waits for the stream of a segment before it unmaps anything of it.
        self._work.synchronize(block.stream)
        self._device.release(end - begin)
        pool = block.pool
        self._stats.change_reserved(begin - end, small=pool.is_small, private=pool.private_id)

    def _lowest_room(self, pool: Pool, size: int, stream: int) -> Block | None:
        for index in range(pool.unmapped.first_at_least((stream,)), len(pool.unmapped)):
            block = pool.unmapped[index]
            if block.stream != stream:
                return None
            before = block.previous
            start = before if before is not None and not before.active else block
            if _room_from(start, size) >= size:
                return start
        return None

    def _reserve(self, pool: Pool, stream: int, page_bytes: int) -> Block:
        total = self._device.total_bytes
        size = -(-(total + total // 8) // page_bytes) * page_bytes
        segment = ExpandableSegment(self._new_addresses(size), size, page_bytes)
        block = Block(pool, stream, segment.address, size, mapped=False, expandable=segment)
        pool.unmapped.add(block)
        return block

    def _map(self, block: Block, size: int) -> bool:
        begin, end = _segment_of(block).pages_covering(block.address, size)
        if not self._device.reserve(end - begin):
            return False
        block.pool.unmapped.remove(block)
        if end - begin < block.size:
            rest = Block(
                block.pool,
                block.stream,
                end,
                block.size - (end - begin),
                mapped=False,
                expandable=block.expandable,
            )
            rest.insert_after(block)
            block.pool.unmapped.add(rest)
        block.size, block.mapped = end - begin, True
        merge(block, block.previous)
        merge(block, block.next)
        block.pool.free.add(block)
        pool = block.pool
        self._stats.change_reserved(end - begin, small=pool.is_small, private=pool.private_id)
        return True

    def _keep_edges(self, block: Block, begin: int, end: int) -> None:
        head, tail = begin - block.address, block.address + block.size - end
        if head:
            before = Block(
                block.pool, block.stream, block.address, head, expandable=block.expandable
            )
            before.insert_before(block)
            block.pool.free.add(before)
        if tail:
            behind = Block(block.pool, block.stream, end, tail, expandable=block.expandable)
            behind.insert_after(block)
            block.pool.free.add(behind)


def _room_from(block: Block | None, size: int) -> int:
    room = 0
    while block is not None and not block.active and room < size:
        room += block.size
        block = block.next
    return room


def _segment_of(block: Block) -> ExpandableSegment:
    if block.expandable is None:
        raise AssertionError(f"{block} lies in no expandable segment")
    return block.expandable
