"""A thread of its own for calls to a disk, with awaitable answers.

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

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_WAITING_CALLS = 100


class DiskBusyError(Exception):
    """The disk is so slow that too many calls wait already; nothing was done."""


class DiskThread:
    """Makes one call after the other; ``OSError`` and ``sqlite3.Error`` go to who awaits."""

    def __init__(self, name: str) -> None:
        self._calls: queue.Queue[Callable[[], bool]] = queue.Queue(MAX_WAITING_CALLS)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def call(self, what: Callable[[], T], *, last: bool = False) -> T:
        """Return what ``what`` returns; the thread ends after the ``last`` call.

        A call that is cancelled, by a timeout say, is carried out all the same when its turn comes.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def work() -> bool:
            try:
                result = what()
            except (OSError, sqlite3.Error) as error:
                _tell(loop, done, partial(done.set_exception, error))
            else:
                _tell(loop, done, partial(done.set_result, result))
            return not last

        try:
            self._calls.put_nowait(work)
        except queue.Full:
            raise DiskBusyError(f"{MAX_WAITING_CALLS} calls wait for the disk") from None
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
