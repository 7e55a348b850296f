"""What the figures of a probe worker are called as signals."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from gpuward.agent.model import Sample, SeriesKey
from gpuward.agent.probe_workers import CPU

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# By the worker's names.
GPU_SIGNALS = {
    "launch_seconds": "probe_launch_seconds",
    "launch_event_seconds": "gpu_probe_event_seconds",
    "launch_event_shortest_seconds": "gpu_probe_event_shortest_seconds",
    "clock_hertz": "gpu_probe_clock_hertz",
    "longest_gap_seconds": "gpu_probe_longest_gap_seconds",
    "gap_ratio": "gpu_probe_gap_ratio",
    "host_to_device_bytes_per_second": "gpu_probe_host_to_device_bytes_per_second",
    "device_to_host_bytes_per_second": "gpu_probe_device_to_host_bytes_per_second",
    "device_copy_bytes_per_second": "gpu_probe_device_copy_bytes_per_second",
}
CPU_SIGNALS = {
    "launch_seconds": "probe_launch_seconds",
    "stolen_ratio": "probe_cpu_stolen_ratio",
    "longest_gap_seconds": "probe_cpu_longest_gap_seconds",
    "copy_bytes_per_second": "probe_cpu_copy_bytes_per_second",
    "product_seconds": "probe_cpu_product_seconds",
}


def samples_of(uuid: str, figures: Mapping[str, float], now_s: float) -> Iterator[Sample]:
    """Yield those of ``figures`` that are signals; a worker says more, for people who ask."""
    names = CPU_SIGNALS if uuid == CPU else GPU_SIGNALS
    for name, value in figures.items():
        if name in names and isfinite(value):
            yield sample_of(names[name], uuid, now_s, value)


def sample_of(signal: str, uuid: str, now_s: float, value: float) -> Sample:
    """Return one value of the GPU ``uuid``, or of the node for the processor."""
    return Sample(SeriesKey(signal, gpu="" if uuid == CPU else uuid), now_s, value)
