"""Let others follow the node: a snapshot at once, and the newest one whenever findings change.

Whoever reads slowly gets the newest snapshot next, never a queue of old ones; whoever does not read
at all is let go.  There are few places, because each holds a call that others need too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gpuward.agent.changes import Changes
    from gpuward.agent.model import Snapshot
    from gpuward.daemon.clock import Clock

MAX_WATCHERS = 8
SHORTEST_INTERVAL_S = 1.0
LONGEST_INTERVAL_S = 3_600.0
# Whoever has not taken a snapshot by then is gone, or as good as.
TAKEN_WITHIN_S = 30.0


class TooManyWatchersError(Exception):
    """All places are taken; the message says so."""


class Watchers:
    """Everyone who follows ``snapshot``; ``changes`` happens when its findings do."""

    def __init__(self, snapshot: Callable[[], Snapshot], changes: Changes, clock: Clock) -> None:
        self._snapshot = snapshot
        self._changes = changes
        self._clock = clock
        self._stop = asyncio.Event()
        self.watching = 0

    def stop(self) -> None:
        """Let every ``follow`` come to its end."""
        self._stop.set()

    async def follow(self, min_interval_s: float) -> AsyncIterator[Snapshot]:
        """Yield snapshots until ``stop``; raises ``TooManyWatchersError``.

        ``min_interval_s``: at least that far apart, though not less than a second.
        """
        if self.watching >= MAX_WATCHERS:
            raise TooManyWatchersError(f"{MAX_WATCHERS} watch already; ask GetSnapshot instead")
        interval_s = min(max(min_interval_s, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
        self.watching += 1
        try:
            while not self._stop.is_set():
                # Before the snapshot is taken: what changes from here on wants the next one.
                change = self._changes.next
                due_s = self._clock.mono_s() + interval_s
                yield self._snapshot()
                await self._until(due_s, change)
        finally:
            self.watching -= 1

    async def _until(self, due_s: float, change: asyncio.Event) -> None:
        """Return when ``change`` has come and ``due_s`` too, or at ``stop``."""
        async with asyncio.TaskGroup() as group:
            both = group.create_task(self._both(due_s, change))
            stop = group.create_task(_wait(self._stop))
            await asyncio.wait((both, stop), return_when=asyncio.FIRST_COMPLETED)
            both.cancel()
            stop.cancel()

    async def _both(self, due_s: float, change: asyncio.Event) -> None:
        await self._clock.sleep_until(due_s)
        await change.wait()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
