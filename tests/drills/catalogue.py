"""The catalogue of what can be known about a GPU, and what of it the agent knows.

A row for each signal that NVML, PCI and the kernel have to offer, by the calls' own names: which of
the agent's signals and families it becomes, which findings judge it, and what of it was left out
and why.  ``test_catalogue`` holds it against the agent's tables, in both directions.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One thing that can be known; ``families`` are of the page but of no signal's name."""

    what: str
    source: str
    signals: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    left_out: str = ""

    @property
    def is_implemented(self) -> bool:
        return bool(self.signals or self.kinds or self.families)


IDENTITY = (
    Row(
        "driver's version and its changes",
        "nvmlSystemGetDriverVersion",
        ("node_driver_generation",),
        ("driver.reloaded", "driver.version_mismatch"),
        ("gpuward_driver_info",),
    ),
    Row(
        "how many GPUs there are and should be",
        "nvmlDeviceGetCount, /sys/bus/pci/devices",
        ("node_gpus_expected", "node_gpus_present", "node_gpus_without_driver"),
        ("gpu.missing", "gpu.init_failed"),
    ),
    Row("handle of a GPU", "nvmlDeviceGetHandleByIndex", kinds=("gpu.lost",)),
    Row(
        "UUID, serial, name, PCI address",
        "nvmlDeviceGetUUID, Serial, Name, PciInfo",
        families=("gpuward_gpu_info",),
    ),
    Row(
        "MIG mode, devices, their memory and activity",
        "nvmlDeviceGetMigMode, GetMigDeviceHandleByIndex, GetMemoryInfo, nvmlGpmMigSampleGet",
        (
            "gpu_mig_mode",
            "gpu_mig_memory_total_bytes",
            "gpu_mig_memory_used_bytes",
            "gpu_mig_memory_free_bytes",
            "gpu_mig_sm_active_ratio",
            "gpu_mig_sm_occupancy_ratio",
            "gpu_mig_tensor_active_ratio",
            "gpu_mig_dram_active_ratio",
        ),
    ),
    Row("persistence mode", "nvmlDeviceGetPersistenceMode", ("gpu_persistence_mode",)),
    Row("compute mode", "nvmlDeviceGetComputeMode", ("gpu_compute_mode",)),
    Row(
        "confidential mode",
        "nvmlSystemGetConfComputeSettings, nvmlSystemGetConfComputeState",
        ("gpu_confidential_mode",),
    ),
    Row(
        "InfoROM",
        "nvmlDeviceValidateInforom",
        ("gpu_inforom_valid",),
        ("gpu.inforom.corrupt",),
    ),
    Row(
        "VBIOS version",
        "nvmlDeviceGetVbiosVersion",
        left_out="no signal: it tells of no fault; `gpuward agent bundle` has it",
    ),
    Row(
        "NUMA node",
        "nvmlDeviceGetNumaNodeId",
        left_out="no signal: placement is not health; `gpuward agent bundle` has it",
    ),
)
MEMORY = (
    Row(
        "memory in all, used, free, reserved",
        "nvmlDeviceGetMemoryInfo v2",
        (
            "gpu_memory_total_bytes",
            "gpu_memory_used_bytes",
            "gpu_memory_free_bytes",
            "gpu_memory_reserved_bytes",
        ),
    ),
    Row(
        "BAR1",
        "nvmlDeviceGetBAR1MemoryInfo",
        ("gpu_bar1_memory_used_bytes", "gpu_bar1_memory_total_bytes"),
        left_out="no finding: no source says at which share mapping begins to fail",
    ),
    Row(
        "memory of each process",
        "nvmlDeviceGetComputeRunningProcesses, Graphics, MPS",
        ("process_gpu_memory_bytes", "gpu_processes"),
    ),
    Row(
        "memory that no process holds",
        "used less the sum of processes",
        ("gpu_memory_unattributed_bytes", "gpu_memory_zombie_bytes"),
        ("gpu.memory.unattributed",),
    ),
    Row("ECC mode", "nvmlDeviceGetEccMode", ("gpu_ecc_mode",)),
    Row(
        "errors in all",
        "nvmlDeviceGetTotalEccErrors",
        (
            "gpu_ecc_corrected_total",
            "gpu_ecc_uncorrected_total",
            "gpu_ecc_aggregate_corrected_total",
            "gpu_ecc_aggregate_uncorrected_total",
        ),
        ("gpu.ecc.uncorrected",),
    ),
    Row(
        "errors by place",
        "nvmlDeviceGetMemoryErrorCounter: DRAM, SRAM",
        (
            "gpu_ecc_dram_corrected_total",
            "gpu_ecc_dram_uncorrected_total",
            "gpu_ecc_sram_corrected_total",
            "gpu_ecc_sram_uncorrected_total",
        ),
        left_out="L1, L2, registers and the like: NOT_SUPPORTED in captures of H100 to L40S",
    ),
    Row(
        "SRAM threshold",
        "nvmlDeviceGetSramEccErrorStatus",
        ("gpu_ecc_sram_threshold_exceeded",),
        ("gpu.ecc.sram_threshold",),
    ),
    Row("slope of corrected errors", "rise of the total", kinds=("gpu.ecc.corrected_rate",)),
    Row(
        "remapped rows",
        "nvmlDeviceGetRemappedRows",
        (
            "gpu_remapped_rows_corrected",
            "gpu_remapped_rows_uncorrected",
            "gpu_row_remap_pending",
            "gpu_row_remap_failed",
        ),
        ("gpu.memory.remap_pending", "gpu.memory.remap_failed"),
    ),
    Row(
        "spare rows of banks",
        "nvmlDeviceGetRowRemapperHistogram",
        ("gpu_row_remap_banks_partial", "gpu_row_remap_banks_exhausted"),
        ("gpu.memory.remap_exhausted",),
    ),
    Row(
        "retired pages",
        "nvmlDeviceGetRetiredPages, nvmlDeviceGetRetiredPagesPendingStatus",
        ("gpu_retired_pages", "gpu_retired_pages_double_bit", "gpu_retired_pages_pending"),
        ("gpu.memory.retired_pages_pending", "gpu.memory.retired_pages_full"),
    ),
    Row(
        "repair of memory",
        "nvmlDeviceGetRepairStatus",
        ("gpu_repair_pending",),
        ("gpu.memory.repair_pending",),
    ),
    Row(
        "unrepairable memory",
        "nvmlDeviceGetUnrepairableMemoryFlag_v1",
        ("gpu_memory_unrepairable",),
        ("gpu.memory.unrepairable",),
    ),
)
CLOCKS_AND_HEAT = (
    Row(
        "what holds the clocks down",
        "nvmlDeviceGetCurrentClocksEventReasons",
        ("gpu_clock_event_reasons",),
    ),
    Row(
        "time under each of these",
        "field values 74, 76, 269-271; nvmlDeviceGetViolationStatus before driver 580",
        (
            "gpu_clock_event_sw_power_cap_seconds_total",
            "gpu_clock_event_sync_boost_seconds_total",
            "gpu_clock_event_sw_thermal_seconds_total",
            "gpu_clock_event_hw_thermal_seconds_total",
            "gpu_clock_event_hw_power_brake_seconds_total",
            "gpu_violation_thermal_seconds_total",
        ),
        ("gpu.thermal.slowdown", "gpu.power.brake"),
    ),
    Row(
        "clocks of processors and memory, and their highest",
        "nvmlDeviceGetClockInfo, GetMaxClockInfo",
        (
            "gpu_sm_clock_hertz",
            "gpu_sm_clock_max_hertz",
            "gpu_sm_clock_best_hertz",
            "gpu_memory_clock_hertz",
            "gpu_memory_clock_max_hertz",
        ),
        ("gpu.clock.slow_under_load", "gpu.slower_than_siblings"),
    ),
    Row(
        "application clocks",
        "nvmlDeviceGetApplicationsClock",
        left_out="deprecated from driver 580 on, gone in CUDA 14",
    ),
    Row("temperature", "nvmlDeviceGetTemperature", ("gpu_temperature_celsius",)),
    Row(
        "temperature of the memory",
        "field value 82",
        ("gpu_memory_temperature_celsius", "gpu_memory_temperature_max_margin_celsius"),
        ("gpu.thermal.memory",),
    ),
    Row(
        "margin to the slow-down",
        "nvmlDeviceGetMarginTemperature, field value 194",
        ("gpu_temperature_margin_celsius", "gpu_temperature_slowdown_margin_celsius"),
    ),
    Row(
        "power, average and instant",
        "nvmlDeviceGetPowerUsage, field value 186",
        ("gpu_power_draw_watts", "gpu_power_instant_watts"),
    ),
    Row(
        "power limit in force, and by default",
        "nvmlDeviceGetEnforcedPowerLimit, GetPowerManagementDefaultLimit",
        ("gpu_power_limit_watts", "gpu_power_default_limit_watts"),
        ("gpu.power.limit_lowered",),
    ),
    Row("energy", "nvmlDeviceGetTotalEnergyConsumption", ("gpu_energy_joules_total",)),
    Row("performance state", "nvmlDeviceGetPerformanceState", ("gpu_performance_state",)),
)
LINKS = (
    Row(
        "PCIe link, and the best it can be and was",
        "nvmlDeviceGetCurrPcieLinkGeneration, Width, Max...",
        (
            "gpu_pcie_link_generation",
            "gpu_pcie_link_generation_max",
            "gpu_pcie_link_generation_best",
            "gpu_pcie_link_width",
            "gpu_pcie_link_width_max",
            "gpu_pcie_link_width_best",
        ),
        ("gpu.pcie.degraded",),
    ),
    Row(
        "PCIe replays",
        "nvmlDeviceGetPcieReplayCounter",
        ("gpu_pcie_replays_total",),
        ("gpu.pcie.replays",),
    ),
    Row(
        "PCIe errors",
        "field values 173, 179, 180",
        (
            "gpu_pcie_errors_correctable_total",
            "gpu_pcie_errors_nonfatal_total",
            "gpu_pcie_errors_fatal_total",
        ),
        ("gpu.pcie.replays",),
    ),
    Row(
        "PCIe traffic",
        "field values 197, 198; GPM 20, 21",
        (
            "gpu_pcie_transmit_bytes_total",
            "gpu_pcie_receive_bytes_total",
            "gpu_pcie_transmit_bytes_per_second",
            "gpu_pcie_receive_bytes_per_second",
        ),
    ),
    Row(
        "PCIe throughput",
        "nvmlDeviceGetPcieThroughput",
        left_out="blocks 20 ms a call, and its unit changed between drivers; counters serve",
    ),
    Row(
        "NVLink links",
        "nvmlDeviceGetNvLinkState",
        ("gpu_nvlink_links", "gpu_nvlink_links_active"),
        ("gpu.nvlink.degraded",),
    ),
    Row(
        "NVLink errors",
        "nvmlDeviceGetNvLinkErrorCounter",
        (
            "gpu_nvlink_replay_errors_total",
            "gpu_nvlink_recovery_errors_total",
            "gpu_nvlink_crc_errors_total",
        ),
        ("gpu.nvlink.degraded",),
    ),
    Row(
        "peer-to-peer matrix",
        "nvmlDeviceGetP2PStatus",
        left_out="NVLink state and fabric say it of each GPU; a matrix is N squared calls",
    ),
    Row(
        "fabric",
        "nvmlDeviceGetGpuFabricInfoV",
        ("gpu_fabric_state", "gpu_fabric_healthy"),
        ("gpu.fabric.unhealthy", "gpu.fabric.not_joined"),
    ),
    Row(
        "fabric manager",
        "systemd unit nvidia-fabricmanager",
        left_out="without it no GPU joins the fabric, which gpu.fabric.not_joined says of each",
    ),
)
ACTIVITY = (
    Row(
        "share of time in which anything ran",
        "nvmlDeviceGetUtilizationRates",
        ("gpu_utilization_ratio", "gpu_memory_bandwidth_utilization_ratio"),
    ),
    Row(
        "samples of the same",
        "nvmlDeviceGetSamples",
        left_out="more of a figure that does not measure load; GPM does",
    ),
    Row(
        "GPM",
        "nvmlGpmMetricsGet 2, 3, 5, 10, 60, 61; DCGM's profiling fields before Hopper",
        (
            "gpu_sm_active_ratio",
            "gpu_sm_occupancy_ratio",
            "gpu_tensor_active_ratio",
            "gpu_dram_active_ratio",
            "gpu_nvlink_receive_bytes_per_second",
            "gpu_nvlink_transmit_bytes_per_second",
            "gpu_activity_source",
        ),
    ),
    Row(
        "what holds the GPU back",
        "the loads, and the servers' queues",
        (
            "gpu_compute_load_ratio",
            "gpu_memory_bandwidth_load_ratio",
            "gpu_memory_capacity_load_ratio",
            "gpu_kv_cache_load_ratio",
            "gpu_power_load_ratio",
            "gpu_pcie_load_ratio",
            "gpu_nvlink_load_ratio",
            "gpu_limiter",
            "gpu_load_verdict",
        ),
        ("gpu.saturated", "gpu.stalled", "gpu.wedged"),
    ),
    Row(
        "share of each process",
        "nvmlDeviceGetProcessUtilization",
        ("process_gpu_utilization_ratio",),
    ),
    Row(
        "encoder and decoder",
        "nvmlDeviceGetEncoderUtilization, GetDecoderUtilization",
        left_out="inference on text does not use them; two calls a second for nobody",
    ),
    Row(
        "accounting",
        "nvmlDeviceGetAccountingStats",
        left_out="accounting mode is off unless root turns it on, and an agent changes nothing",
    ),
)
EVENTS = (
    Row(
        "recovery action",
        "field value 230",
        ("gpu_recovery_action",),
        ("gpu.recovery_needed",),
    ),
    Row("XIDs", "/dev/kmsg, NVML events", kinds=("gpu.xid",)),
    Row("SXids of the switches", "/dev/kmsg", kinds=("node.sxid",)),
    Row(
        "ECC and other NVML events",
        "nvmlEventSetWait_v2: all but XidCriticalError",
        left_out="counters and the recovery action say the same, and keep it",
    ),
    Row(
        "driver leaves or comes",
        "nvmlSystemEventSetWait",
        ("node_maintenance", "node_maintenance_end_timestamp_seconds"),
        ("node.maintenance",),
    ),
    Row(
        "kernel log",
        "/dev/kmsg",
        ("node_kmsg_readable", "node_kmsg_lines_dropped_total"),
        ("node.kmsg_unreadable", "gpu.init_failed"),
    ),
)
OUTSIDE = (
    Row(
        "the driver answers",
        "age of each call, seen by the parent",
        (
            "driver_up",
            "driver_call_wait_seconds",
            "gpu_nvml_call_seconds",
            "node_children_abandoned",
        ),
        ("driver.unresponsive", "driver.missing"),
    ),
    Row("calls that are refused", "NO_PERMISSION", kinds=("agent.permission_missing",)),
    Row(
        "tasks blocked in the driver",
        "/dev/kmsg: blocked for more than; /proc/PID/task",
        kinds=("driver.task_blocked",),
    ),
    Row("configuration space", "/sys/bus/pci/devices/*/config", ("gpu_on_pci_bus",)),
    Row(
        "AER",
        "/sys/bus/pci/devices/*/aer_dev_*",
        ("gpu_aer_fatal_total", "gpu_aer_nonfatal_total", "gpu_aer_correctable_total"),
        ("gpu.pcie.replays",),
    ),
    Row(
        "pressure on processor, memory and disk",
        "/proc/pressure",
        ("node_cpu_pressure_ratio", "node_memory_pressure_ratio", "node_io_pressure_ratio"),
    ),
    Row(
        "who holds the device files",
        "/proc/*/fd",
        left_out="no signal: needs a walk over every process; `gpuward agent release` makes it",
    ),
)
CATALOGUE = (*IDENTITY, *MEMORY, *CLOCKS_AND_HEAT, *LINKS, *ACTIVITY, *EVENTS, *OUTSIDE)
