"""GPM: how busy the parts of a GPU are, between two samples; Hopper and newer.

A kernel that runs on one multiprocessor keeps a GPU as "utilized" as one that runs on all; GPM
counts multiprocessors, tensor cores and bandwidth.  Source: nvml.h, "GPM Functions".  Of a GPU that
is cut into MIG devices only its GPU instances are measured, by a call of their own.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from gpuward.agent.nvml_call import number_of

MEBIBYTE = float(1 << 20)
PERCENT = 0.01

# nvmlGpmMetricId_t -> signal and factor to its unit.
METRICS = {
    2: ("gpu_sm_active_ratio", PERCENT),
    3: ("gpu_sm_occupancy_ratio", PERCENT),
    5: ("gpu_tensor_active_ratio", PERCENT),
    10: ("gpu_dram_active_ratio", PERCENT),
    20: ("gpu_pcie_transmit_bytes_per_second", MEBIBYTE),
    21: ("gpu_pcie_receive_bytes_per_second", MEBIBYTE),
    60: ("gpu_nvlink_receive_bytes_per_second", MEBIBYTE),
    61: ("gpu_nvlink_transmit_bytes_per_second", MEBIBYTE),
}
SIGNALS_OF_GPM = frozenset(signal for signal, _ in METRICS.values())
RATIOS = frozenset(signal for signal, factor in METRICS.values() if factor == PERCENT)
# Traffic over PCIe and NVLink is nobody's but the whole GPU's.
MIG_SIGNALS = {signal: f"gpu_mig_{signal.removeprefix('gpu_')}" for signal in RATIOS}
# NVML refreshes its counters about ten times a second; shorter spans say little.
SHORTEST_S = 0.5
# Calls from several threads at once have been seen to crash; one that hangs must not hold others.
_ONE_AT_A_TIME = threading.Lock()
PATIENCE_S = 0.2


class Gpm:
    """The two samples of one GPU, or of one GPU instance of it; used by one thread."""

    def __init__(self, nvml: Any, handle: Any, gpu_instance: int | None = None) -> None:
        self._nvml = nvml
        self._handle = handle
        self._gpu_instance = gpu_instance
        self._older: Any = None
        self._newer: Any = None
        self._older_s = 0.0
        self._has_older = False
        # Made once: it is large, and asks for the same each time.
        self._request: Any = None

    def is_supported(self) -> bool:
        """Ask the driver; raises what the binding raises."""
        return bool(self._nvml.nvmlGpmQueryDeviceSupport(self._handle).isSupportedDevice)

    def read(self) -> dict[str, float]:
        """Take a sample; return what happened since the last one, nothing at first.

        Raises what the binding raises.
        """
        if not _ONE_AT_A_TIME.acquire(timeout=PATIENCE_S):
            return {}
        try:
            return self._read()
        finally:
            _ONE_AT_A_TIME.release()

    def _read(self) -> dict[str, float]:
        nvml, now_s = self._nvml, time.monotonic()
        if self._older is None:
            self._older, self._newer = nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()
        if self._has_older and now_s - self._older_s < SHORTEST_S:
            return {}
        self._take()
        values = self._metrics() if self._has_older else {}
        self._older, self._newer = self._newer, self._older
        self._older_s, self._has_older = now_s, True
        return values

    def _take(self) -> None:
        if self._gpu_instance is None:
            self._nvml.nvmlGpmSampleGet(self._handle, self._newer)
        else:
            self._nvml.nvmlGpmMigSampleGet(self._handle, self._gpu_instance, self._newer)

    def _metrics(self) -> dict[str, float]:
        if self._request is None:
            self._request = self._new_request()
        request = self._request
        request.sample1, request.sample2 = self._older, self._newer
        self._nvml.nvmlGpmMetricsGet(request)
        values: dict[str, float] = {}
        for metric, (signal, factor) in zip(request.metrics, METRICS.values(), strict=False):
            # A metric that failed has a value too, which means nothing.
            if number_of(metric, "nvmlReturn") == 0:
                value = max(0.0, number_of(metric, "value") * factor)
                values[signal] = min(1.0, value) if signal in RATIOS else value
        return values

    def _new_request(self) -> Any:
        request = self._nvml.c_nvmlGpmMetricsGet_t()
        request.version = self._nvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(METRICS)
        for place, number in enumerate(METRICS):
            request.metrics[place].metricId = number
        return request

    def close(self) -> None:
        """Give the samples back; a GPU that is lost takes them too."""
        for sample in (self._older, self._newer):
            if sample is not None:
                with suppress(self._nvml.NVMLError):
                    self._nvml.nvmlGpmSampleFree(sample)
        self._older = self._newer = None
        self._has_older = False
