"""Blocks that other streams use: freed by the program, but not to be handed out yet.

``record_stream`` names a stream that uses a block.  When the program frees the block, an event on
each such stream says when it is done; until then the block is *pending*: active, not allocated.
Rules: ``recordStream``, ``insert_events``, ``process_events``, ``synchronize_and_free_events`` of
``CUDACachingAllocator.cpp``.  Work takes no time here, save what ``StreamWork.keep_busy`` says.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from gpuward.simulator.allocator_blocks import StreamUses

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.simulator.allocator_blocks import Block
    from gpuward.simulator.allocator_pools import PrivatePool


class StreamWork:
    """Which streams are busy, as in the simulated CUDA runtime: until somebody waits for them."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}
        self._done: dict[int, int] = {}

    def keep_busy(self, stream: int) -> None:
        """Give ``stream`` work that ends when somebody waits for it."""
        self._begun[stream] = self._begun.get(stream, 0) + 1

    def record(self, stream: int) -> int:
        """Return an event: it happens when all that the stream has to do until now is done."""
        return self._begun.get(stream, 0)

    def has_happened(self, stream: int, event: int) -> bool:
        return self._done.get(stream, 0) >= event

    def wait(self, stream: int, event: int) -> None:
        self._done[stream] = max(self._done.get(stream, 0), event)

    def synchronize(self, stream: int) -> None:
        self.wait(stream, self.record(stream))

    def synchronize_all(self) -> None:
        self._done.update(self._begun)


class PendingFrees:
    """The pending blocks of one device, by the stream that is awaited, oldest first."""

    def __init__(self, take_back: Callable[[Block], None]) -> None:
        self.work = StreamWork()
        self._take_back = take_back
        self._awaited: dict[int, deque[tuple[int, Block]]] = {}

    def __bool__(self) -> bool:
        return bool(self._awaited)

    def add(self, block: Block) -> None:
        """Await the streams that use ``block``, which the program has just freed."""
        if block.uses is None:
            raise AssertionError(f"no other stream uses {block}")
        streams, block.uses.streams = block.uses.streams, set()
        for stream in streams:
            block.uses.awaited += 1
            event = self.work.record(stream)
            self._awaited.setdefault(stream, deque()).append((event, block))

    def process(self) -> None:
        """Take back the blocks whose streams are done."""
        for stream in list(self._awaited):
            waiting = self._awaited[stream]
            while waiting and self.work.has_happened(stream, waiting[0][0]):
                self._done_with(waiting.popleft()[1])
            if not waiting:
                del self._awaited[stream]

    def synchronize(self, pool: PrivatePool | None = None) -> None:
        """Wait for every pending block, or for those of ``pool``, and take them back."""
        for stream in list(self._awaited):
            left: deque[tuple[int, Block]] = deque()
            for event, block in self._awaited[stream]:
                if pool is not None and block.pool.private is not pool:
                    left.append((event, block))
                    continue
                self.work.wait(stream, event)
                self._done_with(block)
            self._awaited[stream] = left
            if not left:
                del self._awaited[stream]

    def _done_with(self, block: Block) -> None:
        if block.uses is None:
            raise AssertionError(f"no other stream uses {block}")
        block.uses.awaited -= 1
        if block.uses.awaited == 0:
            self._take_back(block)


def use_on(block: Block, stream: int) -> None:
    """Note that ``stream`` uses ``block``; of its own stream there is nothing to note."""
    if stream == block.stream:
        return
    if block.uses is None:
        block.uses = StreamUses()
    block.uses.streams.add(stream)
