"""When a process's room for another request is gone, where its fall is certain.

The floor of its headroom, minute by minute, for an hour at most.  No further ahead than it was
looked back: traffic that grows through a morning falls as straight as a leak, but never to zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_trend import forecast
from gpuward.agent.model import SeriesKey

if TYPE_CHECKING:
    from gpuward.agent.fragmentation_trend import Forecast
    from gpuward.agent.model import Sample
    from gpuward.agent.window import Window

FLOOR = "process_memory_headroom_floor_bytes"
EXHAUSTED_IN = "process_memory_exhausted_in_seconds"
# A floor a minute, as many as a trend takes in.
LOOK_BACK_S = 3_660.0


def exhaustion(window: Window, *, process: str, gpu: str) -> Forecast | None:
    """Return when the headroom of a process on a GPU is gone, ``None`` when nobody can say."""
    key = SeriesKey(FLOOR, gpu=gpu, process=process)
    return window.over(key, window.now_s - LOOK_BACK_S, _ahead)


def _ahead(floors: tuple[Sample, ...]) -> Forecast | None:
    ahead = forecast(floors)
    if ahead is None or ahead.middle_s > floors[-1].at_s - floors[0].at_s:
        return None
    return ahead
