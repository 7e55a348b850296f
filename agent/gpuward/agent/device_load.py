"""How full each resource of a GPU is, by its practical ceiling, over the last half minute.

Two figures a resource: where it is now (an exponential mean, so that one idle second changes
little) and how high it goes (the 90th percentile, so that the gaps between bursts do not hide a
full one).  What cannot be told is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

from gpuward.agent import gpu_ceilings as ceilings
from gpuward.agent.clock_reasons import Reason, held_ratio
from gpuward.agent.limiter import Limiter
from gpuward.agent.model import SeriesKey
from gpuward.agent.remembered import once_a_window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpuward.agent.model import Gpu
    from gpuward.agent.window import Window

SM = "gpu_sm_active_ratio"
TENSOR = "gpu_tensor_active_ratio"
DRAM = "gpu_dram_active_ratio"
UTILIZATION = "gpu_utilization_ratio"
TOUCHED = "gpu_memory_bandwidth_utilization_ratio"
PCIE = ("gpu_pcie_transmit_bytes_per_second", "gpu_pcie_receive_bytes_per_second")
NVLINK = ("gpu_nvlink_transmit_bytes_per_second", "gpu_nvlink_receive_bytes_per_second")
KV_CACHE = "process_kv_cache_usage_ratio"
COMPUTE = Limiter.COMPUTE

# By limiter: the signals that tell it, with their ceilings.
MEASURED = {
    COMPUTE: ((SM, ceilings.SM_ACTIVE), (TENSOR, ceilings.TENSOR_ACTIVE)),
    Limiter.MEMORY_BANDWIDTH: ((DRAM, ceilings.DRAM_ACTIVE),),
}
GUESSED = {
    COMPUTE: ((UTILIZATION, ceilings.COARSE),),
    Limiter.MEMORY_BANDWIDTH: ((TOUCHED, ceilings.COARSE),),
}

RECENT_S = 30.0
MEAN_S = 10.0
# The KV cache is told every five seconds.
LEAST_FIGURES = 4
# Of the ceiling, in bursts and in the mean.
CEILING_RATIO = 0.90
MEAN_RATIO = 0.75
# Close to the limit, and held there by it for most of the time.
POWER_RATIO = 0.97
CAPPED_RATIO = 0.5
FULL_RATIO = 0.98


@dataclass(frozen=True, slots=True)
class Load:
    """``recent`` and ``high`` by the ceiling: at it is 1, and a little more is possible."""

    recent: float
    high: float
    is_at_ceiling: bool


def device_loads(window: Window, gpu: Gpu) -> Mapping[Limiter, Load]:
    """Return the load of each resource that can be told; without ``COMPUTE`` nothing is known."""
    return dict(_loads(window, gpu))


@once_a_window
def is_measured(window: Window, gpu: str) -> bool:
    """Return whether counters of the resources are read, not shares of time alone."""
    return window.latest(SeriesKey(SM, gpu=gpu)) is not None


def _loads(window: Window, gpu: Gpu) -> Iterator[tuple[Limiter, Load]]:
    uuid = gpu.uuid
    for limiter, rows in (MEASURED if is_measured(window, uuid) else GUESSED).items():
        yield from _named(limiter, [_load(window, SeriesKey(s, gpu=uuid), c) for s, c in rows])
    for limiter, signals, rate in (
        (Limiter.PCIE, PCIE, _pcie_rate(window, uuid)),
        (Limiter.NVLINK, NVLINK, _nvlink_rate(window, gpu)),
    ):
        if rate:
            both = [_load(window, SeriesKey(s, gpu=uuid), rate * ceilings.LINK) for s in signals]
            yield from _named(limiter, both)
    yield from _named(Limiter.POWER, [_power(window, uuid)])
    caches = [key for key in window.keys(KV_CACHE) if key.gpu == uuid]
    if caches:
        # An engine takes its memory at the start, whether or not it is used.
        yield from _named(
            Limiter.KV_CACHE, [_load(window, key, ceilings.KV_CACHE) for key in caches]
        )
    else:
        yield from _named(Limiter.MEMORY_CAPACITY, [_capacity(window, uuid)])


def _named(limiter: Limiter, loads: Sequence[Load | None]) -> Iterator[tuple[Limiter, Load]]:
    known = [load for load in loads if load is not None]
    if known:
        yield limiter, max(known, key=lambda load: (load.is_at_ceiling, load.recent))


def _load(window: Window, key: SeriesKey, ceiling: float) -> Load | None:
    if window.latest(key) is None:
        return None
    figures = window.figures(key, window.now_s - RECENT_S)
    if len(figures) < LEAST_FIGURES:
        return None
    recent, high = _mean(figures) / ceiling, _high(figures) / ceiling
    return Load(recent, high, is_at_ceiling=high >= CEILING_RATIO and recent >= MEAN_RATIO)


def _mean(figures: Sequence[float]) -> float:
    share = 1.0 - exp(-RECENT_S / len(figures) / MEAN_S)
    mean = figures[0]
    for figure in figures:
        mean += share * (figure - mean)
    return mean


def _high(figures: Sequence[float]) -> float:
    """Return the 90th percentile, nearest rank."""
    return sorted(figures)[(9 * len(figures) - 1) // 10]


def _power(window: Window, gpu: str) -> Load | None:
    limit = window.latest(SeriesKey("gpu_power_limit_watts", gpu=gpu))
    if limit is None or limit.value <= 0:
        return None
    load = _load(window, SeriesKey("gpu_power_draw_watts", gpu=gpu), limit.value)
    if load is None:
        return None
    near = load.high >= POWER_RATIO
    capped = near and (held_ratio(window, gpu, Reason.SW_POWER_CAP, RECENT_S) or 0.0)
    return Load(load.recent, load.high, is_at_ceiling=capped >= CAPPED_RATIO)


def _capacity(window: Window, gpu: str) -> Load | None:
    total = window.latest(SeriesKey("gpu_memory_total_bytes", gpu=gpu))
    free = window.latest(SeriesKey("gpu_memory_free_bytes", gpu=gpu))
    if total is None or free is None or total.value <= 0:
        return None
    releasable = sum(
        sample.value
        for key in window.keys("process_memory_releasable_bytes")
        if key.gpu == gpu and (sample := window.latest(key)) is not None
    )
    load = 1.0 - (free.value + releasable) / total.value
    return Load(load, load, is_at_ceiling=load > FULL_RATIO)


def _pcie_rate(window: Window, gpu: str) -> float | None:
    generation = window.latest(SeriesKey("gpu_pcie_link_generation", gpu=gpu))
    width = window.latest(SeriesKey("gpu_pcie_link_width", gpu=gpu))
    if generation is None or width is None:
        return None
    return ceilings.PCIE_LANE.get(int(generation.value), 0.0) * width.value


def _nvlink_rate(window: Window, gpu: Gpu) -> float | None:
    links = window.latest(SeriesKey("gpu_nvlink_links_active", gpu=gpu.uuid))
    rate = ceilings.nvlink_bytes_per_second(gpu.name)
    return None if links is None or rate is None else links.value * rate
