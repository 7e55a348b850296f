"""Which resource holds a GPU back, and whether anybody suffers from it.

Utilization says for how much of a second some kernel ran; it is 100 % for one thread in a loop and
for a card at its best.  Saturation is queueing while a resource is at its ceiling: so the device is
judged (each resource by its practical ceiling, over 30 s) and the service (do requests wait?), and
only both together are trouble.  A full card whose requests do not wait is ``efficient``, and that
is what it was bought for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from gpuward.agent.clock_reasons import Reason, held_ratio
from gpuward.agent.device_load import COMPUTE, SM, device_loads, is_measured
from gpuward.agent.limiter import Limiter
from gpuward.agent.model import SeriesKey
from gpuward.agent.remembered import once_a_window
from gpuward.agent.service_load import ServiceLoad, service_load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.agent.device_load import Load
    from gpuward.agent.model import Gpu
    from gpuward.agent.window import Window

RECENT_S = 30.0
UTILIZATION = "gpu_utilization_ratio"
TOUCHED = "gpu_memory_bandwidth_utilization_ratio"
CLOCK = "gpu_sm_clock_hertz"
HIGHEST_CLOCK = "gpu_sm_clock_max_hertz"
ACTIVITIES = (SM, "gpu_tensor_active_ratio", "gpu_dram_active_ratio")

# Below this a GPU that cannot be called full leaves the blame to the host.
HOST_BOUND_RATIO = 0.5
# A reason counts as throttling from this share of the time on.
THROTTLED_RATIO = 0.1
POWER_CAPPED_RATIO = 0.5
SLOW_CLOCK_RATIO = 0.75
# A kernel that spins is always there and does next to nothing.
SPINNING_RATIO = 0.99
NOTHING_RATIO = 0.05
# By shares of time, which are coarser, a long prefill comes near that.
NOTHING_COARSE_RATIO = 0.02
# Not a resource's counter but shares of time: most of the doubt about a verdict.
COARSE_CONFIDENCE = 0.4


class Verdict(IntEnum):
    """What device and service are together; the numbers are ``gpu_load_verdict``."""

    OK = 0
    EFFICIENT = 1
    SATURATED = 2
    STALLED = 3
    WEDGED = 4
    DEGRADED = 5


class Source(IntEnum):
    """How activity is known; the numbers are ``gpu_activity_source``."""

    GPM = 1
    DCGM = 2
    # Shares of time with a kernel, or with memory being moved: all that there is without counters.
    COARSE = 3


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one GPU: ``loads`` are those that could be told, ``limiter`` is what the verdict names."""

    verdict: Verdict
    limiter: Limiter
    loads: Mapping[Limiter, Load]
    service: ServiceLoad | None
    confidence: float


def activity_source(window: Window, gpu: Gpu) -> Source | None:
    """Return who tells of the activity of ``gpu``; ``None`` when nobody does."""
    if is_measured(window, gpu.uuid):
        # The driver of a GPU that has no GPM does not tell of its multiprocessors.
        return Source.DCGM if SM in gpu.unsupported else Source.GPM
    known = window.latest(SeriesKey(UTILIZATION, gpu=gpu.uuid)) is not None
    return Source.COARSE if known else None


@once_a_window
def judge_load(window: Window, gpu: Gpu) -> Judgement | None:
    """Return the judgement of ``gpu``; ``None`` when its activity is not known, as with MIG."""
    if gpu.mig:
        return None
    loads = device_loads(window, gpu)
    if COMPUTE not in loads:
        return None
    service = service_load(window, gpu.uuid)
    full = [limiter for limiter, load in loads.items() if load.is_at_ceiling]
    limiter = max(full, key=lambda each: (loads[each].recent, -each), default=Limiter.NONE)
    verdict, named = _verdict(
        limiter,
        is_bad=service is not None and service.is_bad,
        is_spinning=_is_spinning(window, gpu.uuid, service),
        throttle=_throttle(window, gpu.uuid),
        compute=loads[COMPUTE].recent,
    )
    confidence = 1.0 if is_measured(window, gpu.uuid) else COARSE_CONFIDENCE
    return Judgement(verdict, named, loads, service, confidence)


def _verdict(
    limiter: Limiter, *, is_bad: bool, is_spinning: bool, throttle: Limiter, compute: float
) -> tuple[Verdict, Limiter]:
    if is_spinning:
        return Verdict.WEDGED, Limiter.NONE
    if not is_bad:
        return (Verdict.EFFICIENT if limiter else Verdict.OK), limiter
    if throttle:
        # The cause comes before the queue that it makes.
        return Verdict.DEGRADED, throttle
    if limiter:
        return Verdict.SATURATED, limiter
    return Verdict.STALLED, Limiter.HOST if compute < HOST_BOUND_RATIO else Limiter.NONE


def _throttle(window: Window, gpu: str) -> Limiter:
    for reason, named in (
        (Reason.HW_POWER_BRAKE, Limiter.POWER_BRAKE),
        (Reason.HW_THERMAL, Limiter.HEAT),
        (Reason.SW_THERMAL, Limiter.HEAT),
    ):
        if (held_ratio(window, gpu, reason, RECENT_S) or 0.0) >= THROTTLED_RATIO:
            return named
    clock = window.latest(SeriesKey(CLOCK, gpu=gpu))
    highest = window.latest(SeriesKey(HIGHEST_CLOCK, gpu=gpu))
    if clock is None or highest is None or clock.value >= SLOW_CLOCK_RATIO * highest.value:
        return Limiter.NONE
    # A low clock under the power cap is the power limit at work, a state and no fault.
    capped = held_ratio(window, gpu, Reason.SW_POWER_CAP, RECENT_S) or 0.0
    idle = held_ratio(window, gpu, Reason.IDLE, RECENT_S) or 0.0
    return Limiter.NONE if max(capped, idle) >= POWER_CAPPED_RATIO else Limiter.CLOCK


def _is_spinning(window: Window, gpu: str, service: ServiceLoad | None) -> bool:
    """Return whether a kernel is always there, does nothing, and requests in flight get nothing."""
    if service is None or not service.running or service.tokens_per_second != 0:
        return False
    since_s = window.now_s - RECENT_S
    present = window.figures(SeriesKey(UTILIZATION, gpu=gpu), since_s)
    if not present or min(present) < SPINNING_RATIO:
        return False
    measured = is_measured(window, gpu)
    limit = NOTHING_RATIO if measured else NOTHING_COARSE_RATIO
    work = [
        window.figures(SeriesKey(signal, gpu=gpu), since_s)
        for signal in (ACTIVITIES if measured else (TOUCHED,))
    ]
    return all(figures and max(figures) < limit for figures in work)
