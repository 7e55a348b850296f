"""A made-up node as samplers would report it: 8 GPUs, and processes that fill a count of series.

Values move a little from second to second, and nothing is wrong with the node, unless told.
"""

from __future__ import annotations

import re

from gpuward.agent.model import Batch, Driver, Gpu, Process, Sample, SeriesKey
from gpuward.agent.signals import SIGNALS, Scope

GPUS = tuple(f"GPU-{index:08x}-0000-0000-0000-000000000000" for index in range(8))
# The detector of fragmentation looks at these: 8 processes that publish 8 GPUs each.
TAPPED = 64
ONCE_A_MINUTE = "_floor_bytes"
TOTAL_BYTES = 80 << 30
RESERVED_BYTES = 8 << 30
VALUES = {
    "gpu_memory_total_bytes": float(TOTAL_BYTES),
    "gpu_memory_used_bytes": float(40 << 30),
    "gpu_memory_free_bytes": float(40 << 30),
    "process_memory_reserved_bytes": float(RESERVED_BYTES),
    "process_memory_allocated_bytes": float(RESERVED_BYTES * 7 // 8),
    "process_memory_active_bytes": float(RESERVED_BYTES * 7 // 8),
    "process_memory_requested_bytes": float(RESERVED_BYTES * 7 // 8),
    "process_memory_stranded_bytes": float(1 << 26),
    "process_memory_releasable_bytes": float(1 << 29),
    "process_memory_headroom_bytes": float(30 << 30),
    "process_memory_headroom_ratio": 900.0,
    "process_memory_mean_large_request_bytes": float(32 << 20),
    "process_gpu_memory_bytes": float(RESERVED_BYTES + (1 << 30)),
    "process_memory_headroom_fast_bytes": float(29 << 30),
    "process_memory_expandable_segments": 0.0,
    "process_allocation_retries_total": 0.0,
    "process_out_of_memory_total": 0.0,
    "gpu_memory_unattributed_bytes": 0.0,
    "gpu_memory_tapped_ratio": 1.0,
    "gpu_fabric_state": 3.0,
    "gpu_fabric_healthy": 1.0,
    "driver_up": 1.0,
}

# What a healthy GPU has none of.
NEVER = re.compile(
    "gpu_(aer_|ecc_|row_remap_|retired_|repair_|memory_unrepairable|recovery_|"
    "pcie_(replays|errors)|nvlink_.*error|"
    "clock_event_.*_seconds|clock_event_reasons|probe_.*(evidence|shift|gap))|"
    "node_.*_pressure|probe_cpu_(stolen|longest_gap)"
)


class Node:
    """A node that has about ``series`` series, never more; ``batch`` is a second of it."""

    def __init__(self, series: int) -> None:
        self.gpus = tuple(
            Gpu(uuid, index, "NVIDIA H100 80GB HBM3", f"00000000:{index:02X}:00.0")
            for index, uuid in enumerate(GPUS)
        )
        of_node = [SeriesKey(name) for name in _names(Scope.NODE)]
        of_gpu = [SeriesKey(name, gpu=uuid) for uuid in GPUS for name in _names(Scope.GPU)]
        names = _names(Scope.PROCESS)
        count = (series - len(of_node) - len(of_gpu)) // len(names)
        self.processes = tuple(_process(number) for number in range(count))
        of_process = [
            SeriesKey(name, gpu=process.gpus[0], process=process.key)
            for process in self.processes
            for name in names
        ]
        self.keys = (*of_node, *of_gpu, *of_process)
        # Shares that have told once what comes once a minute.
        self._begun: set[int] = set()

    def batch(self, now_s: float, *, part: int = 0, parts: int = 1) -> Batch:
        """Return new values of every series, or of one of ``parts`` shares of them."""
        with_floors = int(now_s) % 60 == 0 or part not in self._begun
        self._begun.add(part)
        return Batch(
            samples=tuple(
                # Whole numbers, as bytes and counts are, that move every second.
                Sample(key, now_s, _value(key.signal, now_s))
                for key in self.keys[part::parts]
                if with_floors or not key.signal.endswith(ONCE_A_MINUTE)
            ),
            gpus=self.gpus,
            processes=self.processes,
            driver=Driver(up=True, version="580.95.05"),
        )


def _value(signal: str, now_s: float) -> float:
    # A share stays one, and what never happens goes on not happening.
    value = VALUES.get(signal, 0.0 if NEVER.match(signal) else 12.5)
    stays = not value or signal.endswith("_ratio") or signal.startswith("gpu_fabric_")
    return value if stays else value + int(now_s % 7)


def _names(scope: Scope) -> list[str]:
    return [signal.name for signal in SIGNALS.values() if signal.scope is scope]


def _process(number: int) -> Process:
    return Process(
        key=f"vllm-{number}.service",
        pid=1_000 + number,
        start_ticks=number,
        gpus=(GPUS[number % len(GPUS)],),
        unit=f"vllm-{number}.service",
        engine="vllm",
        model="meta-llama/Llama-3.1-8B-Instruct",
        tapped=number < TAPPED,
    )
