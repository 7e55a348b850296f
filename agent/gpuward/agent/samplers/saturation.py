"""Sample what holds each GPU back, from what the other samplers said.

A judgement over half a minute is worth making every few seconds, not at every turn of the judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.limiter import Limiter
from gpuward.agent.model import Batch, Sample, SeriesKey
from gpuward.agent.saturation import activity_source, judge_load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.window import Window

LOADS = {
    Limiter.COMPUTE: "gpu_compute_load_ratio",
    Limiter.MEMORY_BANDWIDTH: "gpu_memory_bandwidth_load_ratio",
    Limiter.MEMORY_CAPACITY: "gpu_memory_capacity_load_ratio",
    Limiter.KV_CACHE: "gpu_kv_cache_load_ratio",
    Limiter.POWER: "gpu_power_load_ratio",
    Limiter.PCIE: "gpu_pcie_load_ratio",
    Limiter.NVLINK: "gpu_nvlink_load_ratio",
}


class SaturationSampler:
    """Judges the loads that ``window`` shows."""

    name = "saturation"
    period_s = 5.0

    def __init__(self, window: Callable[[float], Window]) -> None:
        self._window = window

    async def sample(self, now_s: float) -> Batch:
        return Batch(samples=tuple(loads(self._window(now_s))))


def loads(window: Window) -> Iterator[Sample]:
    """Yield source, verdict, limiter and loads of every GPU whose activity is known."""
    for gpu in window.gpus:
        source = activity_source(window, gpu)
        if source is not None:
            yield Sample(
                SeriesKey("gpu_activity_source", gpu=gpu.uuid), window.now_s, float(source)
            )
        judgement = judge_load(window, gpu)
        if judgement is None:
            continue
        figures = {LOADS[limiter]: load.recent for limiter, load in judgement.loads.items()}
        figures["gpu_limiter"] = float(judgement.limiter)
        figures["gpu_load_verdict"] = float(judgement.verdict)
        for signal, value in figures.items():
            yield Sample(SeriesKey(signal, gpu=gpu.uuid), window.now_s, value)
