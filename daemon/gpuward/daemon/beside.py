"""Do something that blocks beside the event loop, in a thread that keeps nobody from ending.

The threads of ``asyncio.to_thread`` are joined when the program ends, so one that hangs in a server
or a disk would hang the program with it.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def beside(name: str, work: Callable[[], T]) -> T:
    """Return what ``work`` returns, or raise its ``OSError``; the thread is called ``name``.

    Anything else that it raises is a bug: the thread says which, and whoever waits gets a
    ``RuntimeError``.  Who is cancelled meanwhile leaves the thread to itself.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(how: Callable[[], None]) -> None:
        if not answer.done():
            how()

    def run() -> None:
        how: Callable[[], None] = partial(answer.set_exception, RuntimeError(f"{name} failed"))
        try:
            how = partial(answer.set_result, work())
        except OSError as error:
            how = partial(answer.set_exception, error)
        finally:
            # The loop may have ended before the work: then nobody asks any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, how)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await answer
