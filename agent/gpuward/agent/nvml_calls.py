"""Which NVML calls give which signals, in which unit, and how often: the table.

A row is one call.  Rows that give the same signal are alternatives, best first: a GPU uses the
first one that it supports, so a new driver and an old one read the same series.  Numbers are those
of nvml.h, which never change once published; nothing here imports the binding, the child passes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from gpuward.agent.nvml_conditions import FieldFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CLOCK_SM = 1
CLOCK_MEMORY = 2
TEMPERATURE_CORE = 0
ECC_CORRECTED = 0
ECC_UNCORRECTED = 1
ECC_SINCE_LOAD = 0
FIELD_MEMORY_TEMPERATURE = 82
# nvmlMemory_v2: size of the structure (40 bytes) and version 2 in the top byte.
MEMORY_V2 = 0x0200_0028


class Lane(Enum):
    """How often a call is made, by what it costs; ``longest_s`` stays below what makes it stale."""

    FAST = (1.0, 8.0)
    MEDIUM = (5.0, 20.0)
    SLOW = (30.0, 60.0)

    def __init__(self, period_s: float, longest_s: float) -> None:
        self.period_s = period_s
        self.longest_s = longest_s


@dataclass(frozen=True, slots=True)
class Call:
    """One NVML call of a device handle, and the signals in its answer."""

    name: str
    lane: Lane
    signals: Mapping[str, Callable[[Any], float]]
    arguments: tuple[Any, ...] = ()

    def make(self, nvml: Any, handle: Any) -> dict[str, float]:
        """Return signal values; raises what the binding raises, and ``FieldFailed``."""
        answer = getattr(nvml, self.name)(handle, *self.arguments)
        return {signal: convert(answer) for signal, convert in self.signals.items()}


def _field(values: Any) -> float:
    value = values[0]
    if value.nvmlReturn != 0:
        raise FieldFailed(value.nvmlReturn)
    # The order of nvmlValueType_t.
    member = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")[value.valueType]
    return float(getattr(value.value, member))


def _milli(value: int) -> float:
    return value / 1e3


def _mega(value: int) -> float:
    return value * 1e6


CALLS = (
    Call(
        "nvmlDeviceGetMemoryInfo",
        Lane.FAST,
        {
            "gpu_memory_total_bytes": lambda memory: float(memory.total),
            "gpu_memory_used_bytes": lambda memory: float(memory.used),
            "gpu_memory_free_bytes": lambda memory: float(memory.free),
            "gpu_memory_reserved_bytes": lambda memory: float(memory.reserved),
        },
        (MEMORY_V2,),
    ),
    # Drivers before 510 know the first version only: its ``used`` includes what is reserved.
    Call(
        "nvmlDeviceGetMemoryInfo",
        Lane.FAST,
        {
            "gpu_memory_total_bytes": lambda memory: float(memory.total),
            "gpu_memory_used_bytes": lambda memory: float(memory.used),
            "gpu_memory_free_bytes": lambda memory: float(memory.free),
        },
    ),
    Call(
        "nvmlDeviceGetUtilizationRates",
        Lane.FAST,
        {
            "gpu_utilization_ratio": lambda rates: rates.gpu / 100,
            "gpu_memory_bandwidth_utilization_ratio": lambda rates: rates.memory / 100,
        },
    ),
    Call("nvmlDeviceGetClockInfo", Lane.FAST, {"gpu_sm_clock_hertz": _mega}, (CLOCK_SM,)),
    Call("nvmlDeviceGetClockInfo", Lane.FAST, {"gpu_memory_clock_hertz": _mega}, (CLOCK_MEMORY,)),
    Call("nvmlDeviceGetCurrentClocksEventReasons", Lane.FAST, {"gpu_clock_event_reasons": float}),
    # Its name before driver 535.
    Call(
        "nvmlDeviceGetCurrentClocksThrottleReasons", Lane.FAST, {"gpu_clock_event_reasons": float}
    ),
    Call("nvmlDeviceGetPowerUsage", Lane.FAST, {"gpu_power_draw_watts": _milli}),
    Call("nvmlDeviceGetTotalEnergyConsumption", Lane.FAST, {"gpu_energy_joules_total": _milli}),
    Call(
        "nvmlDeviceGetTemperature",
        Lane.FAST,
        {"gpu_temperature_celsius": float},
        (TEMPERATURE_CORE,),
    ),
    Call(
        "nvmlDeviceGetFieldValues",
        Lane.FAST,
        {"gpu_memory_temperature_celsius": _field},
        ([FIELD_MEMORY_TEMPERATURE],),
    ),
    Call("nvmlDeviceGetEnforcedPowerLimit", Lane.SLOW, {"gpu_power_limit_watts": _milli}),
    Call(
        "nvmlDeviceGetTotalEccErrors",
        Lane.SLOW,
        {"gpu_ecc_corrected_total": float},
        (ECC_CORRECTED, ECC_SINCE_LOAD),
    ),
    Call(
        "nvmlDeviceGetTotalEccErrors",
        Lane.SLOW,
        {"gpu_ecc_uncorrected_total": float},
        (ECC_UNCORRECTED, ECC_SINCE_LOAD),
    ),
    Call("nvmlDeviceGetCurrPcieLinkGeneration", Lane.SLOW, {"gpu_pcie_link_generation": float}),
    Call("nvmlDeviceGetCurrPcieLinkWidth", Lane.SLOW, {"gpu_pcie_link_width": float}),
    Call("nvmlDeviceGetPcieReplayCounter", Lane.SLOW, {"gpu_pcie_replays_total": float}),
)

# Lists of processes, each with its older form; both kinds hold memory.
PROCESS_LISTS = (
    ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"),
    ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
)
