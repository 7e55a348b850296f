"""Whether an allocator of a GPU can be as a map says: maps come from processes, which may lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.memory_map.model import Segment

# Addresses and sizes beyond are no memory of a GPU: 47 bits of virtual address space, doubled.
MAX_ADDRESS = 2**48


def is_plausible(segments: Iterable[Segment]) -> bool:
    """Whether segments have a size and do not overlap, nor their blocks, which lie inside them."""
    end = 0
    for segment in sorted(segments, key=lambda segment: segment.address):
        if segment.address < end or segment.size <= 0:
            return False
        end = segment.address + segment.size
        if end > MAX_ADDRESS or not _is_inside(segment):
            return False
    return True


def _is_inside(segment: Segment) -> bool:
    end = 0
    for block in segment.blocks:
        if block.offset < end or block.size <= 0 or not 0 <= block.requested <= block.size:
            return False
        end = block.offset + block.size
    return end <= segment.size
