"""The layout of the simulated driver's state: the ctypes mirror of ``src/state.h``.

One mapped file is what the simulated NVML, the simulated CUDA runtime and the scenario player
share.  ``tests/simulator/test_layout.py`` compares every offset with the compiled library's.
Units are NVML's own; ``src/state.h`` says who may write what.
"""

# ruff: noqa: SIM905 - a hundred names read best as words
from __future__ import annotations

from ctypes import Structure, c_char, c_uint32, c_uint64
from enum import IntEnum, IntFlag

STATE_MAGIC = int.from_bytes(b"GPUWSIM1", "little")
STATE_VERSION = 2
STATE_VARIABLE = "GPUWARD_SIM_STATE"
MAX_GPUS = 16
MAX_PROCESSES = 64
MAX_EVENTS = 256
MAX_MIG_DEVICES = 7
LOCK_GPU = 0
LOCK_EVENTS = MAX_GPUS


class Capability(IntFlag):
    """What a GPU has at all; without the bit the driver answers "not supported"."""

    ECC = 1 << 0
    ROW_REMAPPING = 1 << 1
    MEMORY_TEMPERATURE = 1 << 2
    NVLINK = 1 << 3
    MIG = 1 << 4
    THERMAL_MARGIN = 1 << 5
    FABRIC = 1 << 6
    GPM = 1 << 7
    SRAM_STATUS = 1 << 8
    VIOLATION_STATUS = 1 << 9
    PAGE_RETIREMENT = 1 << 10
    CONFIDENTIAL = 1 << 11
    RESTRICTED_PROFILING = 1 << 12


class CallGroup(IntFlag):
    """Calls that hang or are slow together."""

    SYSTEM = 1 << 0
    IDENTITY = 1 << 1
    MEMORY = 1 << 2
    UTILIZATION = 1 << 3
    CLOCK = 1 << 4
    POWER = 1 << 5
    TEMPERATURE = 1 << 6
    ECC = 1 << 7
    LINK = 1 << 8
    PROCESS = 1 << 9
    FIELD = 1 << 10
    EVENT = 1 << 11
    CUDA = 1 << 12
    GPM = 1 << 13


ALL_CALLS = CallGroup((1 << 14) - 1)


class ProcessKind(IntEnum):
    """Which of NVML's three process lists shows a process."""

    COMPUTE = 0
    GRAPHICS = 1
    MPS = 2


class EventKind(IntFlag):
    """NVML's nvmlEventType bits that a scenario can raise."""

    SINGLE_BIT_ECC = 0x1
    DOUBLE_BIT_ECC = 0x2
    PSTATE = 0x4
    XID = 0x8
    CLOCK = 0x10


class ProcessRow(Structure):
    """One process on one GPU; ``pid`` 0 is a free row."""

    _fields_ = (
        ("pid", c_uint32),
        ("kind", c_uint32),
        ("start_ticks", c_uint64),
        ("memory_bytes", c_uint64),
        ("sm_percent", c_uint32),
        ("memory_percent", c_uint32),
        ("encoder_percent", c_uint32),
        ("decoder_percent", c_uint32),
        ("mig_device", c_uint32),
    )


class EventRow(Structure):
    """One event; ``sequence`` counts from 1 and is written last."""

    _fields_ = (
        ("sequence", c_uint64),
        ("kind", c_uint64),
        ("data", c_uint64),
        ("gpu_index", c_uint64),
    )


GPU_U64 = (
    "hang_groups delay_groups delay_microseconds capabilities "
    "memory_total_bytes memory_reserved_bytes memory_driver_bytes "
    "bar1_total_bytes bar1_used_bytes energy_millijoules "
    "clocks_event_reasons clocks_event_reasons_supported "
    "sw_power_cap_nanoseconds sync_boost_nanoseconds sw_thermal_slowdown_nanoseconds "
    "hw_thermal_slowdown_nanoseconds hw_power_brake_nanoseconds "
    "ecc_volatile_corrected_dram ecc_volatile_corrected_sram "
    "ecc_volatile_uncorrected_dram ecc_volatile_uncorrected_sram "
    "ecc_aggregate_corrected_dram ecc_aggregate_corrected_sram "
    "ecc_aggregate_uncorrected_dram ecc_aggregate_uncorrected_sram "
    "nvlink_active_mask nvlink_crc_errors nvlink_replay_errors nvlink_recovery_errors "
    "pcie_transmit_bytes pcie_receive_bytes"
).split()
GPU_U32 = (
    "lost gpu_recovery_action pci_domain pci_bus pci_device pci_device_id pci_subsystem_id "
    "pci_class minor_number numa_node brand architecture "
    "compute_capability_major compute_capability_minor core_count multiprocessor_count "
    "memory_bus_width_bits utilization_gpu_percent utilization_memory_percent "
    "utilization_encoder_percent utilization_decoder_percent "
    "temperature_celsius memory_temperature_celsius temperature_shutdown_celsius "
    "temperature_slowdown_celsius temperature_gpu_max_celsius temperature_memory_max_celsius "
    "power_draw_milliwatts power_limit_milliwatts power_limit_enforced_milliwatts "
    "power_limit_default_milliwatts power_limit_min_milliwatts power_limit_max_milliwatts "
    "graphics_clock_megahertz sm_clock_megahertz memory_clock_megahertz video_clock_megahertz "
    "graphics_clock_max_megahertz sm_clock_max_megahertz memory_clock_max_megahertz "
    "video_clock_max_megahertz performance_state fan_count fan_speed_percent "
    "persistence_mode compute_mode display_active ecc_mode_current ecc_mode_pending "
    "remapped_rows_corrected remapped_rows_uncorrected remapped_rows_pending "
    "remapped_rows_failure remap_banks_max remap_banks_high remap_banks_partial "
    "remap_banks_low remap_banks_none pcie_link_generation pcie_link_generation_max "
    "pcie_link_width pcie_link_width_max pcie_replay_count pcie_transmit_kilobytes_per_second "
    "pcie_receive_kilobytes_per_second nvlink_count nvlink_version mig_mode fabric_state "
    "pcie_correctable_errors pcie_nonfatal_errors pcie_fatal_errors pcie_replay_rollovers "
    "gpm_sm_active_permille gpm_sm_occupancy_permille gpm_tensor_permille gpm_dram_permille "
    "nvlink_transmit_mebibytes_per_second nvlink_receive_mebibytes_per_second "
    "sram_threshold_exceeded memory_unrepairable channel_repair_pending inforom_corrupt "
    "fabric_unhealthy mig_device_count"
).split()
GPU_TEXT = (
    ("name", 96),
    ("uuid", 80),
    ("serial", 32),
    ("vbios_version", 32),
    ("board_part_number", 32),
)


MIG_U64 = ("memory_total_bytes", "memory_reserved_bytes")
MIG_U32 = (
    "gpu_instance compute_instance slice_count multiprocessor_count "
    "gpm_sm_active_permille gpm_sm_occupancy_permille gpm_tensor_permille gpm_dram_permille"
).split()
MIG_TEXT = (("name", 96), ("uuid", 80))


class MigRow(Structure):
    """One MIG device of a GPU: an instance with memory and processors of its own."""

    _fields_ = (
        *((name, c_uint64) for name in MIG_U64),
        *((name, c_uint32) for name in MIG_U32),
        *((name, c_char * size) for name, size in MIG_TEXT),
    )


class GpuRow(Structure):
    """One simulated GPU."""

    _fields_ = (
        *((name, c_uint64) for name in GPU_U64),
        *((name, c_uint32) for name in GPU_U32),
        *((name, c_char * size) for name, size in GPU_TEXT),
        ("mig_devices", MigRow * MAX_MIG_DEVICES),
        ("processes", ProcessRow * MAX_PROCESSES),
    )


class StateRow(Structure):
    """The whole file."""

    _fields_ = (
        ("magic", c_uint64),
        ("version", c_uint32),
        ("size_bytes", c_uint32),
        ("hang_groups", c_uint64),
        ("delay_groups", c_uint64),
        ("delay_microseconds", c_uint64),
        ("closed", c_uint32),
        ("gpu_count", c_uint32),
        ("driver_loaded", c_uint32),
        ("driver_generation", c_uint32),
        ("init_error", c_uint32),
        ("cuda_version", c_uint32),
        ("unbind_count", c_uint32),
        ("bind_count", c_uint32),
        ("driver_version", c_char * 80),
        ("library_version", c_char * 80),
        ("event_count", c_uint64),
        ("events", EventRow * MAX_EVENTS),
        ("gpus", GpuRow * MAX_GPUS),
    )
