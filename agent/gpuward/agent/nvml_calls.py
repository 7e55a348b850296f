"""Which NVML calls give which signals, in which unit, and how often: the table.

A row is one call.  Rows that give the same signal are alternatives, best first: a GPU uses the
first one that it supports, so a new driver and an old one read the same series.  Numbers are those
of nvml.h, which never change once published; nothing here imports the binding, the child passes it.
"""

from __future__ import annotations

from gpuward.agent.nvml_call import Call, Lane, item, mega, member, milli, percent
from gpuward.agent.nvml_calls_health import HEALTH
from gpuward.agent.nvml_confidential import CONFIDENTIAL

CLOCK_SM = 1
CLOCK_MEMORY = 2
TEMPERATURE_CORE = 0
# nvmlMemory_v2: size of the structure (40 bytes) and version 2 in the top byte.
MEMORY_V2 = 0x0200_0028

ACTIVITY = (
    Call(
        "nvmlDeviceGetMemoryInfo",
        Lane.FAST,
        {
            "gpu_memory_total_bytes": member("total"),
            "gpu_memory_used_bytes": member("used"),
            "gpu_memory_free_bytes": member("free"),
            "gpu_memory_reserved_bytes": member("reserved"),
        },
        (MEMORY_V2,),
    ),
    # Drivers before 510 know the first version only: its ``used`` includes what is reserved.
    Call(
        "nvmlDeviceGetMemoryInfo",
        Lane.FAST,
        {
            "gpu_memory_total_bytes": member("total"),
            "gpu_memory_used_bytes": member("used"),
            "gpu_memory_free_bytes": member("free"),
        },
    ),
    Call(
        "nvmlDeviceGetUtilizationRates",
        Lane.FAST,
        {
            "gpu_utilization_ratio": percent("gpu"),
            "gpu_memory_bandwidth_utilization_ratio": percent("memory"),
        },
    ),
    Call("nvmlDeviceGetClockInfo", Lane.FAST, {"gpu_sm_clock_hertz": mega}, (CLOCK_SM,)),
    Call("nvmlDeviceGetClockInfo", Lane.FAST, {"gpu_memory_clock_hertz": mega}, (CLOCK_MEMORY,)),
    Call("nvmlDeviceGetCurrentClocksEventReasons", Lane.FAST, {"gpu_clock_event_reasons": float}),
    # Its name before driver 535.
    Call(
        "nvmlDeviceGetCurrentClocksThrottleReasons", Lane.FAST, {"gpu_clock_event_reasons": float}
    ),
    Call("nvmlDeviceGetPowerUsage", Lane.FAST, {"gpu_power_draw_watts": milli}),
    Call("nvmlDeviceGetTotalEnergyConsumption", Lane.FAST, {"gpu_energy_joules_total": milli}),
    Call(
        "nvmlDeviceGetTemperature",
        Lane.FAST,
        {"gpu_temperature_celsius": float},
        (TEMPERATURE_CORE,),
    ),
    Call("nvmlDeviceGetMarginTemperature", Lane.FAST, {"gpu_temperature_margin_celsius": float}),
    Call("nvmlDeviceGetPerformanceState", Lane.FAST, {"gpu_performance_state": float}),
    Call("nvmlDeviceGetEnforcedPowerLimit", Lane.SLOW, {"gpu_power_limit_watts": milli}),
    Call(
        "nvmlDeviceGetPowerManagementDefaultLimit",
        Lane.SLOW,
        {"gpu_power_default_limit_watts": milli},
    ),
    Call("nvmlDeviceGetMaxClockInfo", Lane.SLOW, {"gpu_sm_clock_max_hertz": mega}, (CLOCK_SM,)),
    Call(
        "nvmlDeviceGetMaxClockInfo",
        Lane.SLOW,
        {"gpu_memory_clock_max_hertz": mega},
        (CLOCK_MEMORY,),
    ),
    Call(
        "nvmlDeviceGetBAR1MemoryInfo",
        Lane.SLOW,
        {
            "gpu_bar1_memory_total_bytes": member("bar1Total"),
            "gpu_bar1_memory_used_bytes": member("bar1Used"),
        },
    ),
    Call("nvmlDeviceGetPersistenceMode", Lane.SLOW, {"gpu_persistence_mode": float}),
    Call("nvmlDeviceGetComputeMode", Lane.SLOW, {"gpu_compute_mode": float}),
    Call("nvmlDeviceGetMigMode", Lane.SLOW, {"gpu_mig_mode": item(0)}),
)
CALLS = (*ACTIVITY, *HEALTH, *CONFIDENTIAL)
