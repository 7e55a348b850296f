"""Close the parts of the agent in the opposite order of their opening, each within a bound."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

log = structlog.get_logger()

CLOSED_WITHIN_S = 3.5


def close_within(parts: AsyncExitStack, name: str, close: Callable[[], Awaitable[None]]) -> None:
    """Let ``parts`` await ``close`` when they are closed, and go on without it where it hangs."""

    async def closed() -> None:
        try:
            async with asyncio.timeout(CLOSED_WITHIN_S):
                await close()
        except TimeoutError:
            log.warning("part.not_closed", part=name, after_s=CLOSED_WITHIN_S)

    parts.push_async_callback(closed)
