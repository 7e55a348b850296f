"""Wait for a channel, but not for ever: below every lease, so that a row is never in two hands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from gpuward.coordinator.page import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

# With room in the lease for writing what came of it.
ANSWER_WITHIN_S = 15.0


async def in_time(answer: Awaitable[T]) -> T | Retry:
    """Return ``answer``, or that there was none."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await answer
    except TimeoutError:
        return Retry(f"no answer within {ANSWER_WITHIN_S:.0f} s")
