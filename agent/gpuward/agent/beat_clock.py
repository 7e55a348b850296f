"""A clock whose sleepers wake together, four times a second at most.

Some twenty loops of the agent sleep for seconds and work for a millisecond.  Each that wakes alone
finds the processor's caches cold and pays for a wake-up of its own; together they take a sixteenth
less of the agent's time (measured).  The kernel does the same with timer slack.  A loop's period
stays what it is, for it is counted from when a turn was due; only its place in the second moves.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock

BEAT_S = 0.25
# Who sleeps for less is in a hurry, or counts on being woken in time.
HURRY_S = 0.5


class BeatClock:
    """Shows the time of ``clock``; whoever sleeps for long wakes with its next beat."""

    def __init__(self, clock: Clock) -> None:
        self.wall_s = clock.wall_s
        self.mono_s = clock.mono_s
        self._clock = clock

    async def sleep_until(self, mono_s: float) -> None:
        """Return once ``mono_s()`` has reached ``mono_s``, a beat later at most."""
        if mono_s - self.mono_s() >= HURRY_S:
            mono_s = ceil(mono_s / BEAT_S) * BEAT_S
        await self._clock.sleep_until(mono_s)
