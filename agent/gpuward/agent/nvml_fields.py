"""Signals that NVML gives as field values: many in one call, each with an answer of its own.

Numbers are NVML_FI_DEV_* of nvml.h.  A field that a GPU does not support is asked for no more; one
that fails this time is absent this time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuward.agent.nvml_call import Lane, milli, nano, number_of
from gpuward.agent.nvml_conditions import (
    DEVICE_LOST,
    DRIVER_GONE,
    UNSUPPORTED,
    condition,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NO_SCOPE = 0
# The order of nvmlValueType_t.
MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass(frozen=True, slots=True)
class Field:
    """One field; ``since``: the driver's major version from which the number means this."""

    number: int
    signal: str
    lane: Lane
    convert: Callable[[float], float] = float
    since: int = 0


# 269 to 271 came with 575 under other numbers and have had these since 580.
FIELDS = (
    Field(74, "gpu_clock_event_sw_power_cap_seconds_total", Lane.FAST, nano),
    Field(76, "gpu_clock_event_sync_boost_seconds_total", Lane.FAST, nano),
    Field(269, "gpu_clock_event_sw_thermal_seconds_total", Lane.FAST, nano, since=580),
    Field(270, "gpu_clock_event_hw_thermal_seconds_total", Lane.FAST, nano, since=580),
    Field(271, "gpu_clock_event_hw_power_brake_seconds_total", Lane.FAST, nano, since=580),
    Field(82, "gpu_memory_temperature_celsius", Lane.FAST),
    Field(186, "gpu_power_instant_watts", Lane.FAST, milli),
    Field(197, "gpu_pcie_transmit_bytes_total", Lane.FAST),
    Field(198, "gpu_pcie_receive_bytes_total", Lane.FAST),
    Field(173, "gpu_pcie_errors_correctable_total", Lane.SLOW),
    Field(179, "gpu_pcie_errors_nonfatal_total", Lane.SLOW),
    Field(180, "gpu_pcie_errors_fatal_total", Lane.SLOW),
    Field(194, "gpu_temperature_slowdown_margin_celsius", Lane.SLOW),
    Field(195, "gpu_memory_temperature_max_margin_celsius", Lane.SLOW),
    Field(230, "gpu_recovery_action", Lane.SLOW),
)


class FieldValues:
    """The fields of one GPU that it may support."""

    def __init__(self, driver_major: int) -> None:
        known = [field for field in FIELDS if driver_major >= field.since]
        self._fields = {lane: [field for field in known if field.lane is lane] for lane in Lane}

    def __len__(self) -> int:
        """Return how many may still be given."""
        return sum(map(len, self._fields.values()))

    def read(self, nvml: Any, handle: Any, lane: Lane) -> dict[str, float]:
        """Return signal values; raises what the binding raises, ``DeviceLost``, ``DriverGone``."""
        fields = tuple(self._fields[lane])
        if not fields:
            return {}
        # Numbers alone cost the binding an exception each.
        numbers = [(field.number, NO_SCOPE) for field in fields]
        answers = nvml.nvmlDeviceGetFieldValues(handle, numbers)
        values: dict[str, float] = {}
        for field, answer in zip(fields, answers, strict=True):
            code = number_of(answer, "nvmlReturn")
            if code == 0:
                member = MEMBERS[number_of(answer, "valueType")]
                value = number_of(number_of(answer, "value"), member)
                values[field.signal] = field.convert(float(value))
            elif code in UNSUPPORTED:
                self._fields[lane].remove(field)
            elif code in DEVICE_LOST | DRIVER_GONE:
                raise condition(code, f"nvmlDeviceGetFieldValues: field {field.number}: {code}")
        return values

    def forget(self, lane: Lane) -> None:
        """Ask for none of the lane's fields again: the GPU has no field values at all."""
        self._fields[lane].clear()

    def supported(self) -> frozenset[str]:
        """Return the signals that may still be given."""
        return frozenset(field.signal for fields in self._fields.values() for field in fields)


SIGNALS_OF_FIELDS = frozenset(field.signal for field in FIELDS)
