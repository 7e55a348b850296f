"""Time as an argument: the only module that asks the operating system what time it is.

Monotonic time is for intervals and deadlines; wall time is for people and for the wire.  A test
passes ``gpuward.daemon.testing.FakeClock`` and an hour goes by in a millisecond.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What a loop may ask about time."""

    def wall_s(self) -> float:
        """Return seconds since 1970-01-01 UTC; it can jump in both directions."""
        ...

    def mono_s(self) -> float:
        """Return seconds that never run backwards (CLOCK_MONOTONIC, as tap files carry)."""
        ...

    async def sleep_until(self, mono_s: float) -> None:
        """Return once ``mono_s()`` has reached ``mono_s``; at once when it already has."""
        ...


class SystemClock:
    """The machine's clock."""

    def wall_s(self) -> float:
        return time.time()  # noqa: TID251 - the one place

    def mono_s(self) -> float:
        return time.monotonic()

    async def sleep_until(self, mono_s: float) -> None:
        await asyncio.sleep(max(0.0, mono_s - time.monotonic()))
