"""Collect a process's garbage once a minute, so that it stays as small as it was.

CPython keeps freed tuples for later, up to two thousand of each length, and gives them back only in
a full round of its collector, which cycles that are a little older wait for too: each transport of
asyncio is one, each type of ctypes arrays.  A process that allocates as little as the NVML child
does, or that collects young objects as seldom as the agent, comes to no such round by itself in
hours, and grew by 1.6 and 4.4 MiB an hour on the way there (measured).
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock

EVERY_S = 60.0


class Garbage:
    """Makes a full round every minute; of what there was in the first one, none looks again.

    ``is_settled``: what shall not be looked at has been frozen by now.
    """

    def __init__(self, now_s: float, *, is_settled: bool = False) -> None:
        self._due_s = now_s + EVERY_S
        self._is_settled = is_settled

    async def collect_on(self, clock: Clock) -> None:
        """Collect for ever, for a process with an event loop."""
        while True:
            await clock.sleep_until(self._due_s)
            self.collect_if_due(clock.mono_s())

    def collect_if_due(self, now_s: float) -> None:
        """Take a fraction of a millisecond a minute; the first time, eight."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + EVERY_S
        gc.collect()
        if not self._is_settled:
            # Modules and the like live as long as the process.
            self._is_settled = True
            gc.freeze()
