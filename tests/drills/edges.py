"""The thresholds of what the driver tells, as numbers of the simulated driver: the side on which a
GPU is well, and the one on which it is not.

Facts restated, not imported: a wrong limit in the agent is to fail here.
"""

from __future__ import annotations

from typing import NamedTuple

MIB, GIB = 1 << 20, 1 << 30
HW_THERMAL, POWER_BRAKE = 0x40, 0x80


class Rate(NamedTuple):
    """A counter that rises."""

    per_second: float


class Edge(NamedTuple):
    """What a GPU says that is just well, and what is just not; and the figure beside the finding.

    ``over``: what ends the finding, where that takes more than being just well.
    """

    kind: str
    metric: str
    least: float
    well: dict[str, int | Rate]
    ill: dict[str, int | Rate]
    over: dict[str, int] = {}  # noqa: RUF012 - of a tuple, which nobody changes


class Duty(NamedTuple):
    """A clocks-event reason that is on in one of so many looks."""

    kind: str
    metric: str
    reason: int
    well: int
    ill: int


FLAGS = (
    Edge(
        "gpu.memory.remap_pending",
        "gpu_row_remap_pending",
        1,
        {"remapped_rows_pending": 0},
        {"remapped_rows_pending": 1},
    ),
    Edge(
        "gpu.memory.retired_pages_pending",
        "gpu_retired_pages_pending",
        1,
        {"remapped_rows_pending": 0},
        {"remapped_rows_pending": 1},
    ),
    Edge(
        "gpu.memory.retired_pages_full",
        "gpu_retired_pages",
        63,
        {"remapped_rows_corrected": 60, "remapped_rows_uncorrected": 2},
        {"remapped_rows_corrected": 60, "remapped_rows_uncorrected": 3},
    ),
    Edge(
        "gpu.memory.remap_failed",
        "gpu_row_remap_failed",
        1,
        {"remapped_rows_failure": 0},
        {"remapped_rows_failure": 1},
    ),
    Edge(
        "gpu.memory.remap_exhausted",
        "gpu_row_remap_banks_exhausted",
        1,
        {"remap_banks_none": 0},
        {"remap_banks_none": 1},
    ),
    Edge(
        "gpu.memory.repair_pending",
        "gpu_repair_pending",
        1,
        {"channel_repair_pending": 0},
        {"channel_repair_pending": 1},
    ),
    Edge(
        "gpu.ecc.sram_threshold",
        "gpu_ecc_sram_threshold_exceeded",
        1,
        {"sram_threshold_exceeded": 0},
        {"sram_threshold_exceeded": 1},
    ),
    Edge(
        "gpu.inforom.corrupt",
        "gpu_inforom_valid",
        0,
        {"inforom_corrupt": 0},
        {"inforom_corrupt": 1},
    ),
    Edge(
        "gpu.fabric.unhealthy",
        "gpu_fabric_healthy",
        0,
        {"fabric_unhealthy": 0},
        {"fabric_unhealthy": 1},
    ),
    Edge("gpu.fabric.not_joined", "gpu_fabric_state", 2, {"fabric_state": 3}, {"fabric_state": 2}),
    Edge(
        "gpu.recovery_needed",
        "gpu_recovery_action",
        1,
        {"gpu_recovery_action": 0},
        {"gpu_recovery_action": 1},
    ),
)
COUNTS = (
    Edge(
        "gpu.ecc.uncorrected",
        "gpu_ecc_uncorrected_total",
        1,
        {"ecc_volatile_uncorrected_dram": 0},
        {"ecc_volatile_uncorrected_dram": 1},
    ),
    # One a second.
    Edge(
        "gpu.ecc.corrected_rate",
        "gpu_ecc_corrected_total",
        400,
        {"ecc_volatile_corrected_dram": Rate(0.95)},
        {"ecc_volatile_corrected_dram": Rate(1.1)},
    ),
    # More than a hundred within 290 s.
    Edge(
        "gpu.nvlink.degraded",
        "gpu_nvlink_crc_errors_total",
        101,
        {"nvlink_crc_errors": Rate(0.3)},
        {"nvlink_crc_errors": Rate(0.42)},
    ),
)
LEVELS = (
    Edge(
        "gpu.thermal.memory",
        "gpu_memory_temperature_celsius",
        95,
        {"memory_temperature_celsius": 94},
        {"memory_temperature_celsius": 95},
        {"memory_temperature_celsius": 91},
    ),
    Edge(
        "gpu.pcie.degraded",
        "gpu_pcie_link_width",
        8,
        {"pcie_link_width": 16},
        {"pcie_link_width": 8},
    ),
)
DUTIES = (
    # A twentieth of 290 s; a tenth of 30 s.  Looks are two seconds apart.
    Duty("gpu.thermal.slowdown", "gpu_clock_event_hw_thermal_seconds_total", HW_THERMAL, 25, 15),
    Duty("gpu.power.brake", "gpu_clock_event_hw_power_brake_seconds_total", POWER_BRAKE, 20, 10),
)
# Replays a minute of sixteen lanes, by generation.
REPLAYS_A_MINUTE = {3: 8, 4: 16, 5: 31}


def of_product(row):
    """Return the edges that are shares of what the product has: clock, power, memory, link."""
    replays = REPLAYS_A_MINUTE[row.pcie_link_generation_max] / 60
    clock, power = row.sm_clock_max_megahertz, row.power_limit_default_milliwatts
    memory = row.memory_total_bytes - row.memory_reserved_bytes
    return (
        Edge(
            "gpu.clock.slow_under_load",
            "gpu_sm_clock_hertz",
            0.7 * clock * 1e6,
            {"sm_clock_megahertz": round(0.76 * clock)},
            {"sm_clock_megahertz": round(0.74 * clock)},
        ),
        Edge(
            "gpu.power.limit_lowered",
            "gpu_power_limit_watts",
            0.85 * power / 1e3,
            {"power_limit_enforced_milliwatts": round(0.91 * power)},
            {"power_limit_enforced_milliwatts": round(0.89 * power)},
        ),
        Edge(
            "gpu.pcie.replays",
            "gpu_pcie_replays_total",
            100,
            {"pcie_replay_count": Rate(0.9 * replays)},
            {"pcie_replay_count": Rate(1.2 * replays)},
        ),
        # A process has the rest: 4 % of the memory is free, or 2 %.
        Edge(
            "gpu.memory.saturation",
            "gpu_memory_used_bytes",
            0.97 * memory,
            {"memory_driver_bytes": GIB * 9 // 10},
            {"memory_driver_bytes": GIB * 9 // 10 + memory // 50},
            {"memory_driver_bytes": 0},
        ),
        Edge(
            "gpu.memory.unattributed",
            "gpu_memory_unattributed_bytes",
            GIB,
            {"memory_driver_bytes": GIB * 9 // 10},
            {"memory_driver_bytes": GIB * 9 // 10 + memory // 50},
            {"memory_driver_bytes": 0},
        ),
    )


# What a product has not got, by its signals: neither figures nor findings come of it.
GPM = frozenset(
    {f"gpu_{what}_active_ratio" for what in ("sm", "tensor", "dram")}
    | {f"gpu_pcie_{way}_bytes_per_second" for way in ("transmit", "receive")}
    | {"gpu_sm_occupancy_ratio", "gpu_pcie_load_ratio"}
)
NVLINK = frozenset(
    {f"gpu_nvlink_{what}_errors_total" for what in ("crc", "recovery", "replay")}
    | {f"gpu_nvlink_{way}_bytes_per_second" for way in ("transmit", "receive")}
    | {"gpu_nvlink_links", "gpu_nvlink_links_active", "gpu_nvlink_load_ratio"}
)
FABRIC = frozenset({"gpu_fabric_state", "gpu_fabric_healthy"})
SRAM_STATUS = frozenset({"gpu_ecc_sram_threshold_exceeded"})
ROWS = frozenset(
    {"gpu_remapped_rows_corrected", "gpu_remapped_rows_uncorrected"}
    | {"gpu_row_remap_pending", "gpu_row_remap_failed"}
)
BANKS = frozenset({"gpu_row_remap_banks_partial", "gpu_row_remap_banks_exhausted"})
REPAIR = frozenset({"gpu_repair_pending"})
RETIRED_PAGES = frozenset(
    {"gpu_retired_pages", "gpu_retired_pages_double_bit", "gpu_retired_pages_pending"}
)
# From driver 590 on, of which no profile is.
UNREPAIRABLE = frozenset({"gpu_memory_unrepairable"})
ECC = frozenset(
    {f"gpu_ecc_{kind}_total" for kind in ("corrected", "uncorrected")}
    | {f"gpu_ecc_aggregate_{kind}_total" for kind in ("corrected", "uncorrected")}
    | {f"gpu_ecc_dram_{kind}_total" for kind in ("corrected", "uncorrected")}
    | {f"gpu_ecc_sram_{kind}_total" for kind in ("corrected", "uncorrected")}
    | {f"gpu_pcie_errors_{kind}_total" for kind in ("fatal", "nonfatal", "correctable")}
    | {"gpu_ecc_mode"}
)
MARGINS = frozenset(
    {"gpu_temperature_margin_celsius", "gpu_temperature_slowdown_margin_celsius"}
    | {"gpu_memory_temperature_max_margin_celsius"}
)
COUNTED_REASONS = frozenset(
    f"gpu_clock_event_{reason}_seconds_total"
    for reason in ("sw_thermal", "hw_thermal", "hw_power_brake")
)
VIOLATIONS = frozenset({"gpu_violation_thermal_seconds_total"})
MEMORY_HEAT = frozenset({"gpu_memory_temperature_celsius"})
CONFIDENTIAL = frozenset({"gpu_confidential_mode"})
MIG = frozenset({"gpu_mig_mode"})
# How busy the whole of a cut GPU is, nobody knows.
UTILIZATION = frozenset(
    {"gpu_utilization_ratio", "gpu_memory_bandwidth_utilization_ratio", "gpu_activity_source"}
    | {f"gpu_{what}_load_ratio" for what in ("compute", "memory_bandwidth", "memory_capacity")}
    | {"gpu_power_load_ratio", "gpu_limiter", "gpu_load_verdict", "gpu_sm_clock_best_hertz"}
)
BEFORE_HOPPER = GPM | NVLINK | FABRIC | SRAM_STATUS | MEMORY_HEAT | CONFIDENTIAL | MIG
LACKS = {
    "h100-sxm-x8": UNREPAIRABLE | RETIRED_PAGES | VIOLATIONS,
    "h100-mig-x1": UNREPAIRABLE
    | ROWS
    | RETIRED_PAGES
    | VIOLATIONS
    | NVLINK
    | FABRIC
    | GPM
    | UTILIZATION,
    "l40s-x4": UNREPAIRABLE | BEFORE_HOPPER | RETIRED_PAGES,
    "rtx4090-x1": UNREPAIRABLE
    | BEFORE_HOPPER
    | RETIRED_PAGES
    | ECC
    | ROWS
    | BANKS
    | REPAIR
    | VIOLATIONS,
    "t4-x4": UNREPAIRABLE | BEFORE_HOPPER | ROWS | BANKS | REPAIR | MARGINS | COUNTED_REASONS,
}
# What a finding cannot do without.
NEEDS = {
    "gpu.memory.remap_pending": ROWS,
    "gpu.memory.remap_failed": ROWS,
    "gpu.memory.remap_exhausted": BANKS,
    "gpu.memory.repair_pending": REPAIR,
    "gpu.memory.retired_pages_pending": RETIRED_PAGES,
    "gpu.memory.retired_pages_full": RETIRED_PAGES,
    "gpu.ecc.sram_threshold": SRAM_STATUS,
    "gpu.ecc.uncorrected": ECC,
    "gpu.ecc.corrected_rate": ECC,
    "gpu.fabric.unhealthy": FABRIC,
    "gpu.fabric.not_joined": FABRIC,
    "gpu.nvlink.degraded": NVLINK,
    "gpu.thermal.memory": MEMORY_HEAT,
    "gpu.clock.slow_under_load": UTILIZATION,
}
# Figures of processes, probes and parts of a GPU, each told of in drills and tests of its own.
OF_OTHERS = ("gpu_probe_", "gpu_mig_memory", "gpu_mig_sm", "gpu_mig_tensor", "gpu_mig_dram")
OF_ENGINES = frozenset({"gpu_kv_cache_load_ratio"})
