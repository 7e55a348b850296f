"""The spool for the event loop: a thread of its own does the writing.

A write to a tired disk takes a second and one to a dead disk never returns, and the loop that
judges must not wait for either.  The thread is a daemon, so that a write that hangs cannot keep
the process from ending; the number of waiting calls is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from gpuward.agent.spool_file import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gpuward.agent.spool_file import Item

T = TypeVar("T")

MAX_WAITING_CALLS = 100


class SpoolBusyError(Exception):
    """The disk is so slow that too many calls wait already; nothing was done."""


class Spool:
    """``SpoolFile`` with awaitable calls.

    A call that is cancelled, by a timeout say, is carried out all the same when its turn comes.
    """

    def __init__(self, path: Path, *, wall_s: float) -> None:
        self._file = SpoolFile(path, wall_s=wall_s)
        self._calls: queue.Queue[Callable[[], bool]] = queue.Queue(MAX_WAITING_CALLS)
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._thread.start()

    @property
    def events(self) -> int:
        """Return how many events wait for their acknowledgement."""
        return self._file.events

    @property
    def held(self) -> int:
        """Return how many of them are in memory only."""
        return self._file.held

    @property
    def dropped(self) -> int:
        """Return how many events were given up for want of room."""
        return self._file.dropped

    @property
    def remembered(self) -> bytes:
        """Return what an earlier process asked to remember; empty when nothing."""
        return self._file.remembered

    async def append(self, items: Sequence[Item]) -> None:
        """Keep ``items``; they are durable on return, or held in memory while the disk is full."""
        await self._call(lambda: self._file.append(items))

    async def after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` events with a higher number than ``seq``, oldest first.

        Raises ``sqlite3.Error`` when the file cannot be read.
        """
        return await self._call(lambda: self._file.after(seq, limit))

    async def acknowledge(self, seq: int) -> None:
        """Forget all events up to and including ``seq``."""
        await self._call(lambda: self._file.acknowledge(seq))

    async def remember(self, data: bytes) -> None:
        """Keep ``data`` in place of what was remembered before."""
        await self._call(lambda: self._file.remember(data))

    async def close(self) -> None:
        """Write what is held and end the thread; it is left behind where the disk hangs."""
        with contextlib.suppress(SpoolBusyError):
            await self._call(self._file.close, last=True)

    async def _call(self, what: Callable[[], T], *, last: bool = False) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def work() -> bool:
            try:
                result = what()
            except sqlite3.Error as error:
                _tell(loop, done, partial(done.set_exception, error))
            else:
                _tell(loop, done, partial(done.set_result, result))
            return not last

        try:
            self._calls.put_nowait(work)
        except queue.Full:
            raise SpoolBusyError(f"{MAX_WAITING_CALLS} calls wait for the disk") from None
        return await done

    def _work(self) -> None:
        while self._calls.get()():
            pass


def _tell(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], settle: Callable[[], None]
) -> None:
    def settle_if_awaited() -> None:
        if not done.done():
            settle()

    # The loop is closed when the service ended without waiting for us.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle_if_awaited)
