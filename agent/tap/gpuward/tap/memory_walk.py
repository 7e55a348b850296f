"""Turn one walk over all blocks of the allocator into summaries for records, and into a map.

A walk is what ``torch.cuda.memory_snapshot()`` returns: segments with their blocks in order of
address, of all devices.  What ``empty_cache()`` would give back, exactly: whole segments without a
block in use; of expandable segments the pages that lie within one free block, counted from the
segment's own address: ``release_blocks`` in ``c10/cuda/CUDACachingAllocator.cpp``.  That waits for
the streams first, so that a block whose free is pending counts as free, in one with its neighbours.
Private pools (CUDA graphs, ``MemPool``) serve nobody else and are given back by nobody, so their
free memory stands apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gpuward.tap import map_layout
from gpuward.tap.layout import SIZE_CLASSES, Summary
from gpuward.tap.publisher import SnapshotSummary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SMALL_PAGE = 2 << 20
LARGE_PAGE = 20 << 20
STATES = {
    "active_allocated": map_layout.ACTIVE,
    "active_pending_free": map_layout.PENDING_FREE,
    # As torch's documentation has it.
    "active_awaiting_free": map_layout.PENDING_FREE,
    "inactive": map_layout.FREE,
}
# Sizes of so many bits or fewer, below 1 KiB, are class 0.
_FIRST_CLASS_BITS = 10
_LARGE_PAGE_MIB = re.compile(r"large_segment_size_mb:(\d{1,6})(?!\d)")


class Walk(NamedTuple):
    """Segments as torch gives them, when they were read and for how long Python stood still."""

    segments: Sequence[Mapping[str, Any]]
    mono_ns: int
    real_ns: int
    cost_ns: int

    @property
    def blocks(self) -> int:
        return sum(len(segment["blocks"]) for segment in self.segments)

    @property
    def has_expandable(self) -> bool:
        return any(segment.get("is_expandable", False) for segment in self.segments)


def large_page(alloc_conf: str) -> int:
    """Return the page of expandable segments in the large pool, by ``PYTORCH_ALLOC_CONF``."""
    found = _LARGE_PAGE_MIB.search(alloc_conf.replace(" ", ""))
    return int(found[1]) << 20 if found and int(found[1]) else LARGE_PAGE


def summarise(walk: Walk, ordinal: int, page: int = LARGE_PAGE) -> SnapshotSummary:
    """Return what the walk says of one device; ``page`` is ``large_page`` of the process.

    Releasable and stranded add up to what is free, or will be when the streams are done, outside
    of private pools.
    """
    segments = [segment for segment in walk.segments if segment["device"] == ordinal]
    sizes: list[int] = []
    blocks = releasable = private = pending = unsettled = 0
    for segment in segments:
        idle = [block for block in segment["blocks"] if block["state"] != "active_allocated"]
        free = [block for block in idle if block["state"] == "inactive"]
        waits = 0
        if len(free) < len(idle):
            idle = [block for block in idle if block["state"] in STATES]
            waits = sum(block["size"] for block in idle if block["state"] != "inactive")
            pending += waits
        if _pool(segment) == (0, 0):
            sizes += [block["size"] for block in free]
            unsettled += waits
            releasable += _releasable(segment, idle, page, is_settled=not waits)
        else:
            private += sum(block["size"] for block in free)
        blocks += len(segment["blocks"])
    free_bytes, free_counts = _by_class(sizes)
    total, largest = sum(free_bytes), max(sizes, default=0)
    stranded = total + unsettled - releasable
    facts = (blocks, len(segments), total, largest, releasable, stranded, private, pending)
    return SnapshotSummary(Summary(walk.mono_ns, walk.cost_ns, *facts), free_bytes, free_counts)


def map_of(
    walk: Walk, nonce: bytes, gpus: Sequence[map_layout.MapGpu], page: int = LARGE_PAGE
) -> map_layout.MemoryMap:
    """Return the answer to the request ``nonce``; devices that are not in ``gpus`` are left out.

    ``page`` as in ``summarise``.
    """
    places = {gpu.ordinal: place for place, gpu in enumerate(gpus)}
    segments = [
        _map_segment(segment, places[segment["device"]], page)
        for segment in walk.segments
        if segment["device"] in places
    ]
    return map_layout.MemoryMap(
        nonce,
        walk.mono_ns,
        walk.real_ns,
        cost_ns=walk.cost_ns,
        total_segments=len(segments),
        total_blocks=sum(len(segment.blocks) for segment in segments),
        gpus=gpus,
        segments=segments,
    )


def _by_class(sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return bytes and number of the blocks of each size class, see ``layout.Record``."""
    # By number of bits, of which a size has 64 at most: a call for each would take longest of all.
    free_bytes, free_counts = [0] * 65, [0] * 65
    for size in sizes:
        bits = size.bit_length()
        free_bytes[bits] += size
        free_counts[bits] += 1
    return _classes(free_bytes), _classes(free_counts)


def _classes(by_bits: Sequence[int]) -> tuple[int, ...]:
    first, last = _FIRST_CLASS_BITS, _FIRST_CLASS_BITS + SIZE_CLASSES - 1
    return (sum(by_bits[: first + 1]), *by_bits[first + 1 : last], sum(by_bits[last:]))


def _releasable(
    segment: Mapping[str, Any], idle: Sequence[Mapping[str, Any]], large: int, *, is_settled: bool
) -> int:
    """Return what of the ``idle`` blocks goes back; settled, there is a block between any two."""
    if not segment.get("is_expandable", False):
        return int(segment["total_size"]) if len(idle) == len(segment["blocks"]) else 0
    page = _page(segment, large)
    if is_settled:
        idle = [block for block in idle if block["size"] >= page]
    released = 0
    for address, size in _merged([(block["address"], block["size"]) for block in idle]):
        offset = address - segment["address"]
        released += max(0, (offset + size) // page - -(-offset // page)) * page
    return released


def _merged(holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (address, size) of holes, those in one that touch."""
    merged: list[tuple[int, int]] = []
    for address, size in holes:
        if merged and sum(merged[-1]) == address:
            first, before = merged[-1]
            merged[-1] = first, before + size
        else:
            merged.append((address, size))
    return merged


def _map_segment(segment: Mapping[str, Any], gpu: int, large: int) -> map_layout.MapSegment:
    blocks, offset = [], 0
    for block in segment["blocks"]:
        state, size = STATES.get(block["state"], 0), block["size"]
        requested = 0 if state == map_layout.FREE else block.get("requested_size", size)
        blocks.append(map_layout.MapBlock(offset, size, requested, state))
        offset += size
    flags = map_layout.SMALL_POOL if segment["segment_type"] == "small" else 0
    flags |= map_layout.EXPANDABLE if segment.get("is_expandable", False) else 0
    facts = (segment["address"], segment["total_size"], segment["stream"])
    page_mib = _page(segment, large) >> 20 if flags & map_layout.EXPANDABLE else 0
    return map_layout.MapSegment(*facts, _pool(segment), gpu, flags, blocks, page_mib)


def _page(segment: Mapping[str, Any], large: int) -> int:
    return SMALL_PAGE if segment["segment_type"] == "small" else large


def _pool(segment: Mapping[str, Any]) -> tuple[int, int]:
    first, second = segment.get("segment_pool_id", (0, 0))
    return first, second
