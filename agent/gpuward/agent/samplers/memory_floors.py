"""Sample the least of a minute: what stays when the requests are gone.

A server's memory swings with its load, and a leak of a hundredth of the swing is invisible in it;
the floor of each minute is not.  One point a minute also lets the window keep an hour of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.model import Batch, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.window import Window

MINUTE_S = 60.0
# By signal: the floor's name, and how many samples make a minute.
FLOORS = {
    "process_memory_requested_bytes": ("process_memory_requested_floor_bytes", 30),
    "process_memory_headroom_bytes": ("process_memory_headroom_floor_bytes", 30),
    "process_memory_overhead_bytes": ("process_memory_overhead_floor_bytes", 6),
}


class MemoryFloors:
    """Says once a minute what was least in the ``window``'s last minute."""

    name = "memory_floors"
    period_s = MINUTE_S

    def __init__(self, window: Callable[[float], Window]) -> None:
        self._window = window

    async def sample(self, now_s: float) -> Batch:
        return Batch(samples=tuple(floors(self._window(now_s))))


def floors(window: Window) -> Iterator[Sample]:
    """Yield the floors of all fresh series that have a whole minute."""
    for signal, (floor, enough) in FLOORS.items():
        for key in window.keys(signal):
            values = window.figures(key, window.now_s - MINUTE_S)
            if len(values) >= enough:
                yield Sample(key._replace(signal=floor), window.now_s, min(values))
