"""The best that each card was ever seen to do: what it is compared with when it has no siblings.

"As fast as the slot allows" is no help when the slot is the fault: a card that had sixteen lanes
and has eight in another slot is half as fast, and both are its maximum there.  So the best is kept
by the card's serial number (its UUID where it has none), over restarts and over moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.clock_reasons import Reason, held_ratio
from gpuward.agent.gpu_load import was_busy
from gpuward.agent.model import SeriesKey

if TYPE_CHECKING:
    from gpuward.agent.model import Gpu
    from gpuward.agent.window import Window

CLOCK = "gpu_sm_clock_hertz"
GENERATION = "gpu_pcie_link_generation"
WIDTH = "gpu_pcie_link_width"
CLOCK_BEST = "gpu_sm_clock_best_hertz"
GENERATION_BEST = "gpu_pcie_link_generation_best"
WIDTH_BEST = "gpu_pcie_link_width_best"

# A clock counts that was held under load for this long, not the peak of a moment.
HELD_S = 240.0
# A step of the clock's table: less is no news, and not worth a write.
CLOCK_STEP_HERTZ = 15e6
CAPPED_RATIO = 0.2


@dataclass(frozen=True, slots=True)
class Best:
    """Of one card; 0 is not known yet."""

    pcie_link_generation: float = 0.0
    pcie_link_width: float = 0.0
    sm_clock_hertz: float = 0.0


def name_of(gpu: Gpu) -> str:
    """Return what stays with a card wherever it is plugged in."""
    return gpu.serial or gpu.uuid


def learn(window: Window, gpu: Gpu, known: Best) -> Best:
    """Return the better of what is ``known`` and what ``gpu`` does now; nothing gets worse."""
    clock = _held_clock(window, gpu.uuid)
    better = clock >= known.sm_clock_hertz + CLOCK_STEP_HERTZ
    return Best(
        pcie_link_generation=max(known.pcie_link_generation, _now(window, GENERATION, gpu)),
        pcie_link_width=max(known.pcie_link_width, _now(window, WIDTH, gpu)),
        sm_clock_hertz=clock if better else known.sm_clock_hertz,
    )


def _now(window: Window, signal: str, gpu: Gpu) -> float:
    sample = window.latest(SeriesKey(signal, gpu=gpu.uuid))
    return 0.0 if sample is None else sample.value


def _held_clock(window: Window, gpu: str) -> float:
    """Return the clock that ``gpu`` has held under load, 0 when it was idle or held down."""
    key = SeriesKey(CLOCK, gpu=gpu)
    if window.latest(key) is None or not was_busy(window, gpu, HELD_S):
        return 0.0
    # A power cap moves with the work: a clock under it is no yardstick.
    if (held_ratio(window, gpu, Reason.SW_POWER_CAP, HELD_S) or 0.0) >= CAPPED_RATIO:
        return 0.0
    return median(window.figures(key, window.now_s - HELD_S))
