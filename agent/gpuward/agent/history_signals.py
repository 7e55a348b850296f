"""Which signals are kept for an hour and a day: what people ask about the time before a page.

The rest has five minutes in the window.  A node of eight GPUs, sixteen processes and four services
has some 240 series of these, of the 250 that there is room for.
"""

from __future__ import annotations

SIGNALS_KEPT = frozenset(
    {
        "driver_call_wait_seconds",
        "gpu_dram_active_ratio",
        "gpu_ecc_corrected_total",
        "gpu_ecc_uncorrected_total",
        "gpu_memory_free_bytes",
        "gpu_memory_temperature_celsius",
        "gpu_memory_unattributed_bytes",
        "gpu_memory_used_bytes",
        "gpu_mig_memory_free_bytes",
        "gpu_mig_memory_used_bytes",
        "gpu_pcie_replays_total",
        "gpu_power_draw_watts",
        "gpu_sm_active_ratio",
        "gpu_sm_clock_hertz",
        "gpu_temperature_celsius",
        "gpu_utilization_ratio",
        "probe_launch_seconds",
        "process_kv_cache_usage_ratio",
        "process_memory_active_bytes",
        "process_memory_headroom_bytes",
        "process_memory_reserved_bytes",
        "process_memory_stranded_bytes",
        "process_out_of_memory_total",
        "service_requests_failed_total",
        "service_requests_over_objective_total",
        "service_requests_running",
        "service_requests_total",
        "service_requests_waiting",
        "service_tokens_total",
    }
)
