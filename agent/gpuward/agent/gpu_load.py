"""Whether a GPU was busy for a while: the gate of everything that is normal while it is idle.

Clocks, PCIe generation and power fall on purpose when there is nothing to do, so a monitor that
judges them at rest reports healthy nodes.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.model import SeriesKey
from gpuward.agent.remembered import once_a_window

if TYPE_CHECKING:
    from gpuward.agent.window import Window

# By share of multiprocessors where GPM measures it, else by the time with a kernel running.
ACTIVE = ("gpu_sm_active_ratio", 0.5)
UTILIZED = ("gpu_utilization_ratio", 0.9)
LEAST_SAMPLES = 10


@once_a_window
def was_busy(window: Window, gpu: str, for_s: float) -> bool:
    """Return whether ``gpu`` has been busy for ``for_s``, in the median; unknown is not busy."""
    since_s = window.now_s - for_s
    for signal, least in (ACTIVE, UTILIZED):
        figures = window.figures(SeriesKey(signal, gpu=gpu), since_s)
        if len(figures) >= LEAST_SAMPLES:
            return median(figures) >= least
    return False
