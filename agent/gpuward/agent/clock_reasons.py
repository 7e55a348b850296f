"""Why the clocks of a GPU are held down: NVML's clocks event reasons, as shares of a time.

A point in time says little: the bits flicker.  Drivers from 580 on count the nanoseconds under each
reason, which is exact; for older ones the share of samples with the bit is the next best.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from gpuward.agent.remembered import once_a_window
from gpuward.agent.series_key import series_key

if TYPE_CHECKING:
    from gpuward.agent.window import Window

REASONS = "gpu_clock_event_reasons"
LEAST_SAMPLES = 10
# A share is of no less than this: an agent that has just started has seen little.
LEAST_S = 60.0


class Reason(IntFlag):
    """nvmlClocksEventReason* of nvml.h."""

    IDLE = 0x1
    APPLICATION_CLOCKS = 0x2
    SW_POWER_CAP = 0x4
    HW_SLOWDOWN = 0x8
    SYNC_BOOST = 0x10
    SW_THERMAL = 0x20
    HW_THERMAL = 0x40
    HW_POWER_BRAKE = 0x80


COUNTERS = {
    Reason.SW_POWER_CAP: "gpu_clock_event_sw_power_cap_seconds_total",
    Reason.SYNC_BOOST: "gpu_clock_event_sync_boost_seconds_total",
    Reason.SW_THERMAL: "gpu_clock_event_sw_thermal_seconds_total",
    Reason.HW_THERMAL: "gpu_clock_event_hw_thermal_seconds_total",
    Reason.HW_POWER_BRAKE: "gpu_clock_event_hw_power_brake_seconds_total",
}


@once_a_window
def held_ratio(window: Window, gpu: str, reason: Reason, for_s: float) -> float | None:
    """Return the share of the last ``for_s`` under ``reason``; ``None`` when nobody can say."""
    since_s = window.now_s - for_s
    counted = series_key(COUNTERS.get(reason, ""), gpu)
    if counted.signal and window.latest(counted) is not None:
        rise_s = window.risen(counted, since_s)
        if rise_s == 0:
            return 0.0
        samples = window.values(counted, since_s)
        seen_s = samples[-1].at_s - samples[0].at_s
        return min(1.0, rise_s / max(seen_s, min(for_s, LEAST_S)))
    masks = window.figures(series_key(REASONS, gpu), since_s)
    if len(masks) < LEAST_SAMPLES:
        return None
    # A member of IntFlag makes another at each ``&``, for seven times the work.
    bit = int(reason)
    return sum(int(mask) & bit != 0 for mask in masks) / len(masks)
