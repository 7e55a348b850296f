"""Signals of a GPU's hardware: identity, health of memory, clocks, links; rows of ``SIGNALS``.

A row: name, help, seconds after which the newest value is stale.  Sources and units of the driver
are in ``nvml_calls``, ``nvml_calls_health``, ``nvml_fields`` and ``nvml_gpm``.
"""

from __future__ import annotations

FAST_S = 10.0
SLOW_S = 90.0

_MODES = (
    ("gpu_performance_state", "Performance state: 0 is the fastest, 15 the slowest.", FAST_S),
    ("gpu_persistence_mode", "1 when the driver stays loaded without clients, else 0.", SLOW_S),
    ("gpu_compute_mode", "NVML's compute mode: 0 shared, 2 prohibited, 3 exclusive.", SLOW_S),
    ("gpu_confidential_mode", "1 when the GPU works in confidential mode, else 0.", SLOW_S),
    ("gpu_mig_mode", "1 when the GPU is cut into MIG devices, else 0.", SLOW_S),
    ("gpu_ecc_mode", "1 when ECC is on, else 0.", SLOW_S),
    ("gpu_inforom_valid", "1 when the checksums of the InfoROM are right, else 0.", SLOW_S),
    ("gpu_bar1_memory_used_bytes", "Used part of the window that the PCIe bus sees.", SLOW_S),
    ("gpu_bar1_memory_total_bytes", "Window of memory that the PCIe bus sees.", SLOW_S),
)
_MEMORY_HEALTH = (
    ("gpu_ecc_dram_corrected_total", "Corrected errors of DRAM since the driver's load.", SLOW_S),
    ("gpu_ecc_dram_uncorrected_total", "Uncorrected errors of DRAM since then.", SLOW_S),
    ("gpu_ecc_sram_corrected_total", "Corrected errors of SRAM since the driver's load.", SLOW_S),
    ("gpu_ecc_sram_uncorrected_total", "Uncorrected errors of SRAM since then.", SLOW_S),
    ("gpu_ecc_sram_threshold_exceeded", "1 when SRAM errors call for an inspection.", SLOW_S),
    ("gpu_ecc_aggregate_corrected_total", "Corrected errors in the GPU's life.", SLOW_S),
    ("gpu_ecc_aggregate_uncorrected_total", "Uncorrected errors in the GPU's life.", SLOW_S),
    ("gpu_remapped_rows_corrected", "Rows remapped for corrected errors.", SLOW_S),
    ("gpu_remapped_rows_uncorrected", "Rows remapped for uncorrected errors.", SLOW_S),
    ("gpu_row_remap_pending", "1 when a row waits for a reset to be remapped, else 0.", SLOW_S),
    ("gpu_row_remap_failed", "1 when a row could not be remapped, else 0.", SLOW_S),
    ("gpu_row_remap_banks_partial", "Banks that have few spare rows left.", SLOW_S),
    ("gpu_row_remap_banks_exhausted", "Banks that have no spare row left.", SLOW_S),
    ("gpu_memory_unrepairable", "1 when memory cannot be repaired any more, else 0.", SLOW_S),
    ("gpu_retired_pages", "Pages of memory that were retired in the GPU's life.", SLOW_S),
    ("gpu_retired_pages_double_bit", "Of these, pages retired for a double-bit error.", SLOW_S),
    ("gpu_retired_pages_pending", "1 when a page waits to be retired, else 0.", SLOW_S),
    ("gpu_repair_pending", "1 when a repair of memory waits for a reset, else 0.", SLOW_S),
)
_CLOCKS = (
    ("gpu_sm_clock_max_hertz", "Highest clock of the streaming multiprocessors.", SLOW_S),
    ("gpu_memory_clock_max_hertz", "Highest clock of the memory.", SLOW_S),
    ("gpu_clock_event_sw_power_cap_seconds_total", "Time at the power limit.", FAST_S),
    ("gpu_clock_event_sync_boost_seconds_total", "Time held back by a group of clocks.", FAST_S),
    ("gpu_clock_event_sw_thermal_seconds_total", "Time slowed by the driver for heat.", FAST_S),
    ("gpu_clock_event_hw_thermal_seconds_total", "Time slowed by hardware for heat.", FAST_S),
    ("gpu_clock_event_hw_power_brake_seconds_total", "Time slowed by the power brake.", FAST_S),
    (
        "gpu_violation_thermal_seconds_total",
        "Time below application clocks for heat, as drivers before 580 count it.",
        SLOW_S,
    ),
)
_HEAT_AND_POWER = (
    ("gpu_temperature_margin_celsius", "How much hotter the GPU may get; can be negative.", FAST_S),
    ("gpu_temperature_slowdown_margin_celsius", "Margin at which hardware slows down.", SLOW_S),
    ("gpu_memory_temperature_max_margin_celsius", "Margin at which memory slows down.", SLOW_S),
    ("gpu_power_instant_watts", "Power drawn at this moment.", FAST_S),
    ("gpu_power_default_limit_watts", "Power limit that the board boots with.", SLOW_S),
)
_LINKS = (
    ("gpu_pcie_link_generation_max", "Generation that GPU and slot can agree on.", SLOW_S),
    ("gpu_pcie_link_width_max", "Width that GPU and slot can agree on, lanes.", SLOW_S),
    ("gpu_pcie_transmit_bytes_total", "Bytes sent over PCIe.", FAST_S),
    ("gpu_pcie_receive_bytes_total", "Bytes received over PCIe.", FAST_S),
    ("gpu_pcie_errors_correctable_total", "PCIe errors that the link corrected.", SLOW_S),
    ("gpu_pcie_errors_nonfatal_total", "PCIe errors that lost a transaction.", SLOW_S),
    ("gpu_pcie_errors_fatal_total", "PCIe errors that broke the link.", SLOW_S),
    ("gpu_nvlink_links", "NVLink links that the GPU has.", SLOW_S),
    ("gpu_nvlink_links_active", "NVLink links that are up.", SLOW_S),
    ("gpu_nvlink_replay_errors_total", "Replays on all NVLink links.", SLOW_S),
    ("gpu_nvlink_recovery_errors_total", "Recoveries of all NVLink links.", SLOW_S),
    ("gpu_nvlink_crc_errors_total", "CRC errors on all NVLink links.", SLOW_S),
    ("gpu_fabric_state", "NVML's fabric state: 3 is registered with the fabric.", SLOW_S),
    ("gpu_fabric_healthy", "1 when the fabric calls itself healthy, 0 when not.", SLOW_S),
    ("gpu_recovery_action", "NVML's advice: 0 none, 1 reset, 2 reboot, 3 and up: others.", SLOW_S),
)
_ACTIVITY = (
    ("gpu_sm_active_ratio", "Share of multiprocessors with work.", FAST_S),
    ("gpu_sm_occupancy_ratio", "Share of possible warps that were resident.", FAST_S),
    ("gpu_tensor_active_ratio", "Share of time in which tensor cores worked.", FAST_S),
    ("gpu_dram_active_ratio", "Share of the memory's bandwidth in use.", FAST_S),
    ("gpu_pcie_transmit_bytes_per_second", "Bytes a second sent over PCIe.", FAST_S),
    ("gpu_pcie_receive_bytes_per_second", "Bytes a second received over PCIe.", FAST_S),
    ("gpu_nvlink_receive_bytes_per_second", "Bytes a second received over NVLink.", FAST_S),
    ("gpu_nvlink_transmit_bytes_per_second", "Bytes a second sent over NVLink.", FAST_S),
    (
        "gpu_activity_source",
        "How activity is known: 1 GPM, 3 coarse (utilization alone), 2 a DCGM exporter.",
        FAST_S,
    ),
    ("gpu_nvml_call_seconds", "Slowest of the last driver calls about the GPU.", FAST_S),
)

_PCI = (
    ("gpu_on_pci_bus", "1 while the GPU's configuration space can be read, else 0.", 30.0),
    ("gpu_aer_fatal_total", "Fatal errors that PCIe reported of the GPU.", 30.0),
    ("gpu_aer_nonfatal_total", "Errors that lost a transaction, reported of the GPU.", 30.0),
    ("gpu_aer_correctable_total", "Errors that were corrected, reported of the GPU.", 30.0),
)

HARDWARE = (
    *_MODES,
    *_MEMORY_HEALTH,
    *_CLOCKS,
    *_HEAT_AND_POWER,
    *_LINKS,
    *_ACTIVITY,
    *_PCI,
)
