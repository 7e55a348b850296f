"""Evidence in the clocks of the GPUs: what holds them down, and whether they are down."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.clock_reasons import Reason, held_ratio
from gpuward.agent.detectors import power_brake, power_limit_lowered
from gpuward.agent.diagnosis.per_gpu import on_every_gpu, seen_on
from gpuward.agent.diagnosis.seen import UNKNOWN
from gpuward.agent.diagnosis.told import told
from gpuward.agent.gpu_load import was_busy
from gpuward.agent.learned_best import CLOCK, CLOCK_BEST
from gpuward.agent.model import Result, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.diagnosis.seen import Seen

HIGHEST = "gpu_sm_clock_max_hertz"
MINUTE_S = 60.0
# Research on detectors: a bit that is set for a fifth of a minute is no flicker.
HEAT_RATIO = 0.2
# Every busy card is at its power limit now and then.
CAPPED_RATIO = 0.5
# Of what the card was seen to hold; cards of one kind under one load are within a few percent.
LOW_RATIO = 0.95
# Of the highest clock, while nobody knows what the card holds: the threshold of NVIDIA's nvbench.
LOW_OF_HIGHEST_RATIO = 0.75

# Somebody meant it, so its finding is no trouble; as evidence it counts.
limit_lowered = told(
    power_limit_lowered.detect,
    needs="gpu_power_default_limit_watts",
    results=frozenset({Result.OK}),
)
brake = told(power_brake.detect, needs="gpu_power_draw_watts")


def _held(limit: float, *reasons: Reason) -> Callable[[Case], Seen]:
    """Return what looks whether one of ``reasons`` held the clocks for ``limit`` of a minute."""

    def look(case: Case, gpu: str) -> Seen:
        shares = [held_ratio(case.window, gpu, reason, MINUTE_S) for reason in reasons]
        known = [share for share in shares if share is not None]
        if not known or (len(known) < len(shares) and max(known) < limit):
            return UNKNOWN
        return seen_on(case, gpu, max(known), "ratio", limit, window_s=MINUTE_S)

    return on_every_gpu(look)


capped = _held(CAPPED_RATIO, Reason.SW_POWER_CAP)
heat = _held(HEAT_RATIO, Reason.HW_THERMAL, Reason.SW_THERMAL)


@on_every_gpu
def low(case: Case, gpu: str) -> Seen:
    """Look whether a busy GPU's clock is below what it holds; unknown while it rests."""
    figures = case.window.figures(SeriesKey(CLOCK, gpu=gpu), case.window.now_s - MINUTE_S)
    usual = _usual(case, gpu)
    if not figures or usual is None or not was_busy(case.window, gpu, MINUTE_S):
        return UNKNOWN
    value = median(figures)
    return seen_on(case, gpu, value, "hertz", usual, is_there=value < usual, window_s=MINUTE_S)


def _usual(case: Case, gpu: str) -> float | None:
    """Return the clock below which ``gpu`` is slow; ``None`` when nobody knows."""
    for signal, ratio in ((CLOCK_BEST, LOW_RATIO), (HIGHEST, LOW_OF_HIGHEST_RATIO)):
        known = case.window.latest(SeriesKey(signal, gpu=gpu))
        if known is not None:
            return ratio * known.value
    return None
