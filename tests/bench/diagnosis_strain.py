"""What a fault does to the node around an engine: the physical side of each scenario.

Figures of one moment, without the agent's words: clocks, links, heat, other people's processes,
what waits.  ``diagnosis_card`` and ``diagnosis_node`` turn them into what samplers would say.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Bits of NVML's clocks event reasons.
SW_POWER_CAP, HW_SLOWDOWN, SW_THERMAL, HW_THERMAL, POWER_BRAKE = 0x4, 0x8, 0x20, 0x40, 0x80


@dataclass(slots=True)
class GpuStrain:
    """One GPU; the defaults are a healthy one."""

    # Limit that somebody set, and clocks as shares of what they would be.
    power_limit_watts: float | None = None
    clock: float = 1.0
    # Bits that are set for this share of the seconds.
    reasons: int = 0
    reasons_duty: float = 0.0
    hotter_celsius: float = 0.0
    pcie_width: int | None = None
    pcie_generation: int | None = None
    # Speed of copies between host and GPU, by what the healthy link does.
    host_copy: float = 1.0
    corrected_per_minute: float = 0.0
    uncorrected: int = 0
    remap_pending: bool = False
    device_copy: float = 1.0
    # Share of a probe's kernels that have to wait for another process, and how long.
    gaps: float = 0.0
    gap_s: float = 0.0
    event: float = 1.0
    # Another process's memory, and its share of the GPU's time.
    foreign_bytes: float = 0.0
    foreign_share: float = 0.0
    # The engine's allocator: memory in pieces nobody can use, flushes a minute.
    stranded_share: float = 0.0
    retries_per_minute: float = 0.0
    is_lost: bool = False


@dataclass(slots=True)
class NodeStrain:
    """The node, its two GPUs, and what it depends on."""

    gpus: dict[int, GpuStrain] = field(default_factory=dict)
    cpu_pressure: float = 0.0
    # Round trips of small work on the host, by what they are on an idle one.
    launch: float = 1.0
    stolen: float = 0.0
    # Of an upstream: its latency by the healthy one, and the share of requests that it refuses.
    upstream_slower: dict[str, float] = field(default_factory=dict)
    upstream_throttled: dict[str, float] = field(default_factory=dict)
    # Seconds that the oldest driver call has waited, and since when nobody took a report.
    driver_waits_s: float = 0.0
    partitioned_s: float = 0.0
    clock_step_s: float = 0.0

    def gpu(self, index: int) -> GpuStrain:
        return self.gpus.setdefault(index, GpuStrain())
