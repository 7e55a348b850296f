"""The address space of one process on one GPU as its allocator holds it, and what it adds up to.

Counters say how much is lost to fragmentation; the map says where: which segments stay because of
one small live block in each.  States and pools as in ``torch.cuda.memory_snapshot()``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from heapq import nlargest
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What an expandable segment is mapped and given back in, where it is not told: kSmallBuffer,
# large_segment_size.
SMALL_PAGE_BYTES = 2 * 2**20
LARGE_PAGE_BYTES = 20 * 2**20
# More pools and streams than a picture has room for.
MAX_GROUPS = 32


class State(IntEnum):
    """What a range of memory is to the program."""

    ALLOCATED = 0
    # Freed by the program, still in use by a stream.
    PENDING_FREE = 1
    # Free, and `empty_cache()` would give it back to the device.
    RELEASABLE = 2
    # Free, but something live in the same segment pins it.
    STRANDED = 3
    # Free in a private pool, of a CUDA graph or a MemPool: it serves nobody else.
    KEPT = 4


class BlockState(IntEnum):
    """What the allocator says of a block."""

    ALLOCATED = 1
    PENDING_FREE = 2
    FREE = 3


class Block(NamedTuple):
    """One block of a segment; sizes and ``offset`` from its start in bytes."""

    offset: int
    size: int
    # What the program asked for, before rounding; 0 when free.
    requested: int
    state: BlockState


class Range(NamedTuple):
    """A piece of a segment that is in one state, ``offset`` bytes from its start."""

    offset: int
    size: int
    state: State


@dataclass(frozen=True, slots=True)
class Segment:
    """One range that the allocator holds from the driver; ``blocks`` by offset, no overlaps."""

    address: int
    size: int
    blocks: tuple[Block, ...]
    small_pool: bool = False
    expandable: bool = False
    private_pool: bool = False
    stream: int = 0
    # Pages in which an expandable segment is given back, counted from its address; 0: not told.
    page_bytes: int = 0

    @property
    def pool(self) -> str:
        size = "small" if self.small_pool else "large"
        return f"private {size}" if self.private_pool else size

    def ranges(self) -> Iterator[Range]:
        """Yield the segment piece by piece; an expandable one gives back whole pages of holes.

        ``empty_cache()`` waits for the streams, so blocks that are pending do not pin the others.
        """
        is_idle = all(block.state is not BlockState.ALLOCATED for block in self.blocks)
        for hole in self._holes():
            whole = self._whole_pages(hole) if self.expandable else (0, self.size * is_idle)
            for block in hole:
                if block.state is not BlockState.FREE:
                    yield Range(block.offset, block.size, _IN_USE[block.state])
                elif self.private_pool:
                    yield Range(block.offset, block.size, State.KEPT)
                else:
                    yield from _parted(block, *whole)

    def _holes(self) -> Iterator[list[Block]]:
        """Yield the blocks in runs that touch: in use by the program, or not."""
        end, hole = 0, list[Block]()
        for block in self.blocks:
            is_same = bool(hole) and block.offset == end and block.state is not BlockState.ALLOCATED
            if not is_same or hole[0].state is BlockState.ALLOCATED:
                yield hole
                hole = []
            hole.append(block)
            end = block.offset + block.size
        yield hole

    def _whole_pages(self, hole: list[Block]) -> tuple[int, int]:
        """Return from where to where the whole pages in a run of blocks go."""
        page = self.page_bytes or (SMALL_PAGE_BYTES if self.small_pool else LARGE_PAGE_BYTES)
        if not hole:
            return 0, 0
        first = -(-hole[0].offset // page) * page
        last = (hole[-1].offset + hole[-1].size) // page * page
        return (first, last) if first < last else (0, 0)


_IN_USE = {BlockState.ALLOCATED: State.ALLOCATED, BlockState.PENDING_FREE: State.PENDING_FREE}


def _parted(block: Block, first: int, last: int) -> Iterator[Range]:
    """Yield what of a free block lies before, within and after the range that is given back."""
    at, end = block.offset, block.offset + block.size
    first = min(max(at, first), end)
    last = min(max(first, last), end)
    for start, stop, state in (
        (at, first, State.STRANDED),
        (first, last, State.RELEASABLE),
        (last, end, State.STRANDED),
    ):
        if start < stop:
            yield Range(start, stop - start, state)


class Totals(NamedTuple):
    """Sums over segments, in bytes where nothing else is said."""

    segments: int = 0
    blocks: int = 0
    reserved: int = 0
    allocated: int = 0
    pending: int = 0
    releasable: int = 0
    stranded: int = 0
    kept: int = 0
    # The largest free block outside private pools: what a request may have without asking the
    # device.
    largest_hole: int = 0
    requested: int = 0

    @property
    def free(self) -> int:
        """Free memory, that of private pools apart."""
        return self.releasable + self.stranded


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """What a process holds of a GPU, at ``taken_at_s`` of the wall clock."""

    process: str
    pid: int
    gpu: str
    taken_at_s: float
    segments: tuple[Segment, ...]
    # There was more; what is missing has the highest addresses.
    is_truncated: bool = False


class Group(NamedTuple):
    """The segments of one pool and stream: no block ever moves to another group."""

    pool: str
    stream: int
    segments: tuple[Segment, ...]


def groups(segments: Iterable[Segment]) -> list[Group]:
    """Return the segments by pool and stream, each by address."""
    found: dict[tuple[str, int], list[Segment]] = {}
    for segment in sorted(segments, key=lambda segment: segment.address):
        found.setdefault((segment.pool, segment.stream), []).append(segment)
    return [Group(pool, stream, tuple(found[pool, stream])) for pool, stream in sorted(found)]


def largest_groups(segments: Iterable[Segment]) -> tuple[list[Group], list[Group]]:
    """Return the groups that have a place in a picture, in the order of ``groups``, and the rest.

    A process may make as many streams as it likes; who looks at it must not pay for that.
    """
    found = groups(segments)
    chosen = nlargest(MAX_GROUPS, found, key=lambda group: sum(s.size for s in group.segments))
    names = {(group.pool, group.stream) for group in chosen}
    rest = [group for group in found if (group.pool, group.stream) not in names]
    return [group for group in found if (group.pool, group.stream) in names], rest


def totals(segments: Iterable[Segment]) -> Totals:
    """Return the sums over ``segments``, the maximum of the holes."""
    return reduce(_add, map(_totals, segments), Totals())


def _totals(segment: Segment) -> Totals:
    size = [0] * len(State)
    for piece in segment.ranges():
        size[piece.state] += piece.size
    blocks = () if segment.private_pool else segment.blocks
    holes = (block.size for block in blocks if block.state is BlockState.FREE)
    return Totals(
        segments=1,
        blocks=len(segment.blocks),
        reserved=segment.size,
        allocated=size[State.ALLOCATED],
        pending=size[State.PENDING_FREE],
        releasable=size[State.RELEASABLE],
        stranded=size[State.STRANDED],
        kept=size[State.KEPT],
        largest_hole=max(holes, default=0),
        requested=sum(block.requested for block in segment.blocks),
    )


def _add(a: Totals, b: Totals) -> Totals:
    largest = max(a.largest_hole, b.largest_hole)
    return Totals(*map(sum, zip(a, b, strict=True)))._replace(largest_hole=largest)
