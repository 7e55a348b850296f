"""Every signal, once: name, help, type, and which labels its series carry.

A signal's Prometheus name is ``gpuward_`` plus its name.  docs/metrics.md is made from this table
and the names are a contract: never rename one, never change a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpuward.agent.signals_hardware import HARDWARE
from gpuward.agent.signals_latency import GPU_LATENCY, NODE_LATENCY, REPLICA, UPSTREAM
from gpuward.agent.signals_load import LOAD


class Scope(StrEnum):
    """What a signal is about; it decides the labels."""

    NODE = "node"
    GPU = "gpu"
    PROCESS = "process"
    SERVICE = "service"
    REPLICA = "replica"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal; the unit is the suffix of ``name``, ``_total`` marks a counter."""

    name: str
    scope: Scope
    help: str
    # Newest sample older than this is not shown: stale is absent.
    stale_after_s: float = 10.0


_GPU = (
    ("gpu_memory_total_bytes", "Memory of the GPU.", 30.0),
    ("gpu_memory_used_bytes", "Memory that contexts hold, without what the driver reserves.", 10.0),
    ("gpu_memory_free_bytes", "Memory that nobody holds.", 10.0),
    ("gpu_memory_reserved_bytes", "Memory that driver and firmware keep.", 30.0),
    ("gpu_utilization_ratio", "Share of time in which a kernel ran; not a measure of load.", 10.0),
    ("gpu_memory_bandwidth_utilization_ratio", "Share of time in which memory was accessed.", 10.0),
    ("gpu_sm_clock_hertz", "Clock of the streaming multiprocessors.", 10.0),
    ("gpu_memory_clock_hertz", "Clock of the memory.", 10.0),
    ("gpu_clock_event_reasons", "Bits of NVML's current clocks event reasons.", 10.0),
    ("gpu_power_draw_watts", "Power drawn by the board.", 10.0),
    ("gpu_power_limit_watts", "Power limit in force.", 90.0),
    ("gpu_energy_joules_total", "Energy used since the driver was loaded.", 10.0),
    ("gpu_temperature_celsius", "Temperature of the GPU core.", 10.0),
    ("gpu_memory_temperature_celsius", "Temperature of the memory.", 10.0),
    ("gpu_ecc_corrected_total", "Corrected memory errors since the driver was loaded.", 90.0),
    ("gpu_ecc_uncorrected_total", "Uncorrected memory errors since the driver was loaded.", 90.0),
    ("gpu_pcie_link_generation", "Current generation of the PCIe link.", 90.0),
    ("gpu_pcie_link_width", "Current width of the PCIe link, lanes.", 90.0),
    ("gpu_pcie_replays_total", "PCIe replays since the driver was loaded.", 90.0),
    (
        "gpu_memory_unattributed_bytes",
        "Used memory that no living process is known to hold.",
        30.0,
    ),
    (
        "gpu_memory_tapped_ratio",
        "Share of the memory of processes that a tap shows, idle ones included.",
        30.0,
    ),
    (
        "gpu_memory_explained_ratio",
        "Share of the GPU's used memory that belongs to processes whose allocators are seen.",
        30.0,
    ),
    (
        "gpu_memory_degraded_bytes",
        "Memory of processes whose tap must not ask the allocator.",
        30.0,
    ),
    ("gpu_memory_blind_bytes", "Memory of processes without a tap.", 30.0),
    (
        "gpu_memory_zombie_bytes",
        "Memory that the driver books on processes that do not exist any more.",
        30.0,
    ),
    ("gpu_processes", "Processes that hold memory on the GPU.", 30.0),
    *HARDWARE,
    *LOAD,
    *GPU_LATENCY,
    ("gpu_mig_memory_total_bytes", "Memory of a MIG device; its UUID stands for the GPU.", 10.0),
    ("gpu_mig_memory_used_bytes", "Memory of a MIG device in use.", 10.0),
    ("gpu_mig_memory_free_bytes", "Memory of a MIG device that nobody holds.", 10.0),
    ("gpu_mig_sm_active_ratio", "Share of a MIG device's multiprocessors with work.", 10.0),
    (
        "gpu_mig_sm_occupancy_ratio",
        "Share of a MIG device's possible warps that were resident.",
        10.0,
    ),
    (
        "gpu_mig_tensor_active_ratio",
        "Share of time in which a MIG device's tensor cores worked.",
        10.0,
    ),
    ("gpu_mig_dram_active_ratio", "Share of a MIG device's memory bandwidth in use.", 10.0),
)
_PROCESS = (
    (
        "process_gpu_utilization_ratio",
        "Share of time in which a kernel of the process ran, as NVML says.",
        30.0,
    ),
    ("process_gpu_memory_bytes", "GPU memory that the process holds, as NVML says.", 30.0),
    ("process_memory_reserved_bytes", "Memory that the caching allocator holds.", 10.0),
    ("process_memory_active_bytes", "Reserved memory in use or waiting for a stream.", 10.0),
    ("process_memory_allocated_bytes", "Reserved memory in use by tensors.", 10.0),
    ("process_memory_requested_bytes", "What the program asked for, before rounding.", 10.0),
    ("process_memory_stranded_bytes", "Free reserved memory that cannot be given back.", 10.0),
    ("process_memory_releasable_bytes", "Free reserved memory that can be given back.", 10.0),
    ("process_memory_headroom_bytes", "Largest request that would succeed, give or take.", 10.0),
    (
        "process_memory_headroom_ratio",
        "Headroom by the mean large request of the last minute.",
        10.0,
    ),
    (
        "process_memory_mean_large_request_bytes",
        "Mean of the requests above 1 MiB of the last minute.",
        10.0,
    ),
    (
        "process_memory_headroom_fast_bytes",
        "Largest request that would succeed without a flush of the cache.",
        10.0,
    ),
    (
        "process_memory_unusable_free_ratio",
        "Share of free reserved memory in blocks smaller than the mean large request.",
        10.0,
    ),
    (
        "process_memory_rounding_waste_ratio",
        "Share of active memory that is rounding of requests.",
        10.0,
    ),
    ("process_memory_private_pool_bytes", "Reserved memory of graph and other own pools.", 10.0),
    (
        "process_memory_private_pool_free_bytes",
        "Free memory of graph and other own pools, as the last walk over the blocks found it.",
        150.0,
    ),
    ("process_memory_expandable_segments", "1 when segments are expandable, else 0.", 10.0),
    (
        "process_memory_max_split_size_bytes",
        "Blocks from this size on are kept whole: max_split_size_mb, where it is set.",
        10.0,
    ),
    (
        "process_memory_roundup_divisions",
        "Steps between powers of two that requests are rounded to: roundup_power2_divisions.",
        10.0,
    ),
    (
        "process_memory_overhead_bytes",
        "Memory held beside the caching allocator: context, NCCL, cuBLAS, graphs.",
        30.0,
    ),
    (
        "process_memory_virtual",
        "1 when the allocator counts memory that is not mapped now, as in sleep mode, else 0.",
        30.0,
    ),
    (
        "process_tapped",
        "1 when the process's allocator is seen, 0 when it is blind or its tap degraded.",
        30.0,
    ),
    (
        "process_tap_degraded",
        "1 while there is a tap that must not ask the process's allocator; absent otherwise.",
        10.0,
    ),
    ("process_memory_requested_floor_bytes", "Least that was asked for in a minute.", 150.0),
    ("process_memory_headroom_floor_bytes", "Least headroom in a minute.", 150.0),
    ("process_memory_overhead_floor_bytes", "Least overhead in a minute.", 150.0),
    ("process_memory_tapped_processes", "Processes summed under one name.", 10.0),
    ("process_allocation_retries_total", "Times the allocator had to flush its cache.", 10.0),
    (
        "process_allocation_stream_syncs_total",
        "Times the allocator waited for all streams of the device.",
        10.0,
    ),
    (
        "process_allocation_driver_calls_total",
        "Segments that the allocator took from the driver or gave back.",
        10.0,
    ),
    ("process_out_of_memory_total", "Out-of-memory errors.", 10.0),
    (
        "process_kv_cache_blocks",
        "Blocks of the engine's KV cache on the GPU, as its page says.",
        30.0,
    ),
    ("process_kv_cache_tokens", "Tokens that the engine's KV cache holds when it is full.", 30.0),
    ("process_kv_cache_bytes", "Size of the KV cache, where the engine's page tells it.", 30.0),
    ("process_kv_cache_usage_ratio", "Share of the KV cache that is in use.", 30.0),
    (
        "process_kv_cache_request_blocks",
        "Blocks that a running request holds on average; absent while none runs.",
        30.0,
    ),
    (
        "process_gpu_memory_utilization_limit_ratio",
        "Share of the GPU that the engine was told to take: gpu_memory_utilization.",
        30.0,
    ),
)
_SERVICE = (
    ("service_requests_total", "Requests finished, failed and timed-out ones included.", 30.0),
    ("service_requests_failed_total", "Requests that ended in an error.", 30.0),
    ("service_requests_timed_out_total", "Requests that timed out.", 30.0),
    ("service_requests_over_objective_total", "Successful requests slower than objective.", 30.0),
    ("service_tokens_total", "Output tokens.", 30.0),
    ("service_requests_waiting", "Requests that wait now.", 30.0),
    ("service_requests_running", "Requests that run now.", 30.0),
)
_NODE = (
    ("driver_up", "1 when the driver answers, 0 when it is missing or hung.", 10.0),
    ("driver_call_wait_seconds", "Age of the oldest unanswered driver call.", 10.0),
    ("node_gpus_expected", "GPUs that PCI has bound to the driver.", 30.0),
    ("node_gpus_without_driver", "GPUs that PCI has and that no driver is bound to.", 30.0),
    ("node_kmsg_readable", "1 when the kernel's log can be read, else 0.", 10.0),
    ("node_taps_readable", "1 when every tap that is there can be read, else 0.", 10.0),
    (
        "node_kmsg_lines_dropped_total",
        "Records of the kernel's log that were overwritten unread, or too many to be told.",
        10.0,
    ),
    ("node_gpus_present", "GPUs that the driver lists and that answer.", 10.0),
    (
        "node_driver_generation",
        "Times that the agent has met a driver: another when it was reloaded or replaced.",
        10.0,
    ),
    ("node_children_abandoned", "Children that hang in the driver, left behind, now.", 10.0),
    ("node_maintenance", "1 while the node's driver is being changed on purpose, else 0.", 10.0),
    (
        "node_maintenance_end_timestamp_seconds",
        "When the maintenance ends, seconds since 1970.",
        10.0,
    ),
    *NODE_LATENCY,
)

SIGNALS: dict[str, Signal] = {
    name: Signal(name, scope, help_text, stale_after_s)
    for scope, rows in (
        (Scope.NODE, _NODE),
        (Scope.GPU, _GPU),
        (Scope.PROCESS, _PROCESS),
        (Scope.SERVICE, _SERVICE),
        (Scope.REPLICA, REPLICA),
        (Scope.UPSTREAM, UPSTREAM),
    )
    for name, help_text, stale_after_s in rows
}
