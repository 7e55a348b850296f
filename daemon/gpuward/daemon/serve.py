"""Run a service: one event loop, signals turned into one stop event, a bounded end.

``run`` hands the coroutine a ``asyncio.Event`` that SIGTERM, SIGINT and SIGHUP (a terminal that was
closed; not under nohup) set.  The coroutine closes
what it opened and returns; if it has not after ``stop_within_s``, it is cancelled, and a second
later the process exits with status 1 whatever still hangs.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import structlog

from gpuward.daemon.loop_errors import LoopErrors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger()

GRACE_S = 1.0


def run(main: Callable[[asyncio.Event], Awaitable[None]], *, stop_within_s: float = 10.0) -> None:
    """Run ``main`` until it returns; raises what it raises."""
    with asyncio.Runner() as runner:
        runner.run(_supervise(main, stop_within_s))


async def _supervise(main: Callable[[asyncio.Event], Awaitable[None]], within_s: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopErrors())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            service = group.create_task(_call(main, stop))
            bound = group.create_task(_bound(service, stop, within_s))
            service.add_done_callback(lambda _: bound.cancel())
    except BaseExceptionGroup as errors:
        # What `main` raised, not the wrapping of a group that is our own business.
        raise errors.exceptions[0] from None


async def _call(main: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    await main(stop)


async def _bound(service: asyncio.Task[None], stop: asyncio.Event, within_s: float) -> None:
    await stop.wait()
    await asyncio.sleep(within_s)
    log.error("service.stop_timed_out", after_s=within_s)
    service.cancel()
    await asyncio.sleep(GRACE_S)
    os._exit(1)
