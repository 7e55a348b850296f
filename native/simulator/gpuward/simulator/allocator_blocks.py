"""Blocks of device memory and the ordered sets in which the allocator looks for a free one.

A segment is a doubly linked list of blocks that lie side by side.  Free blocks are ordered by
(stream, size, address), so that the first one at or behind a request is the best fit at the lowest
address, as ``std::set`` with ``BlockComparatorSize`` is in ``CUDACachingAllocator.cpp``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.simulator.allocator_expandable import ExpandableSegment
    from gpuward.simulator.allocator_pools import PrivatePool
    from gpuward.simulator.allocator_stats import PoolId

Key = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Block:
    """A piece of a segment; ``mapped`` is false for address space without memory behind it."""

    pool: Pool = field(repr=False)
    stream: int
    address: int
    size: int
    # What the program asked for when the block was last handed out; torch keeps it when it is free.
    requested: int = 0
    # The program holds it.
    allocated: bool = False
    # It cannot be handed out: the program holds it, or a stream may still use it.
    active: bool = False
    mapped: bool = True
    expandable: ExpandableSegment | None = field(default=None, repr=False)
    previous: Block | None = field(default=None, repr=False)
    next: Block | None = field(default=None, repr=False)
    # Other streams than its own; ``None`` until ``record_stream`` names one.
    uses: StreamUses | None = field(default=None, repr=False)
    # How often a free block had been looked for in the pool when this one became free.
    listed_at: int = 0

    @property
    def is_split(self) -> bool:
        return self.previous is not None or self.next is not None

    def insert_before(self, successor: Block) -> None:
        """Link this block between ``successor`` and what came before it."""
        self.previous, self.next = successor.previous, successor
        if self.previous is not None:
            self.previous.next = self
        successor.previous = self

    def insert_after(self, predecessor: Block) -> None:
        """Link this block between ``predecessor`` and what came behind it."""
        self.previous, self.next = predecessor, predecessor.next
        if self.next is not None:
            self.next.previous = self
        predecessor.next = self


@dataclass(slots=True)
class StreamUses:
    """Which other streams use a block, and how many of them are still awaited after its free."""

    streams: set[int] = field(default_factory=set)
    awaited: int = 0


class OrderedBlocks:
    """Blocks ordered by a key that does not change while they are inside."""

    def __init__(self, key: Callable[[Block], Key]) -> None:
        self._key = key
        self._keys: list[Key] = []
        self._by_key: dict[Key, Block] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Block:
        return self._by_key[self._keys[index]]

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks in order, as they were when iteration began."""
        return iter([self._by_key[key] for key in self._keys])

    def add(self, block: Block) -> None:
        key = self._key(block)
        insort(self._keys, key)
        self._by_key[key] = block

    def remove(self, block: Block) -> None:
        key = self._key(block)
        del self._by_key[key]
        del self._keys[bisect_left(self._keys, key)]

    def first_at_least(self, key: Key) -> int:
        """Return the index of the first block whose key is not less; ``len`` when there is none."""
        return bisect_left(self._keys, key)


class Pool:
    """Free blocks for small or for large requests, of everybody or of one private pool."""

    def __init__(self, *, is_small: bool, private: PrivatePool | None = None) -> None:
        self.is_small = is_small
        self.private = private
        # How often a free block was looked for; counted where there is garbage collection.
        self.lookups = 0
        self.free = OrderedBlocks(lambda block: (block.stream, block.size, block.address))
        self.unmapped = OrderedBlocks(lambda block: (block.stream, block.address))

    @property
    def private_id(self) -> PoolId | None:
        return None if self.private is None else self.private.pool_id

    def home_of(self, block: Block) -> OrderedBlocks:
        """Return the set that ``block`` belongs to while it is free."""
        return self.free if block.mapped else self.unmapped


def merge(block: Block, neighbour: Block | None) -> int:
    """Let ``block`` swallow a free ``neighbour``; return the bytes won, 0 when it cannot.

    ``block`` itself must be in no ordered set: its size and address change.
    """
    if neighbour is None or neighbour.active or neighbour.mapped != block.mapped:
        return 0
    neighbour.pool.home_of(neighbour).remove(neighbour)
    if neighbour is block.previous:
        block.address = neighbour.address
        block.previous = neighbour.previous
        if block.previous is not None:
            block.previous.next = block
    else:
        block.next = neighbour.next
        if block.next is not None:
            block.next.previous = block
    block.size += neighbour.size
    return neighbour.size
