"""What was checked of a GPU and what was not: unknown is not healthy.

No finding means nothing of a check that could not be made: consumer cards have no ECC, a MIG
device no utilization, and a hung driver answers nothing.  So each check that there is of a GPU is
told with its state, by the signals that it looks at.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from gpuward.agent.detectors import gpu_flags
from gpuward.agent.model import SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Gpu, Snapshot

_REASONS = ("gpu_clock_event_reasons",)
_ACTIVITY = (("gpu_sm_active_ratio",), ("gpu_utilization_ratio",))
_CLOCKS = ("gpu_sm_clock_hertz", "gpu_sm_clock_max_hertz", *_REASONS)

# By kind: alternatives, each of them signals that are all needed.
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    **{flag.kind.name: ((flag.signal,),) for flag in gpu_flags.FLAGS},
    "gpu.clock.slow_under_load": tuple((*_CLOCKS, *activity) for activity in _ACTIVITY),
    "gpu.ecc.corrected_rate": (("gpu_ecc_corrected_total",),),
    "gpu.ecc.uncorrected": (("gpu_ecc_uncorrected_total",),),
    "gpu.memory.coverage_fell": (("gpu_memory_explained_ratio",),),
    "gpu.memory.saturation": (("gpu_memory_free_bytes", "gpu_memory_total_bytes"),),
    "gpu.memory.unattributed": (("gpu_memory_unattributed_bytes",),),
    "gpu.nvlink.degraded": (("gpu_nvlink_links", "gpu_nvlink_links_active"),),
    "gpu.pcie.degraded": (
        (
            "gpu_pcie_link_width",
            "gpu_pcie_link_width_max",
            "gpu_pcie_link_generation",
            "gpu_pcie_link_generation_max",
        ),
    ),
    "gpu.pcie.replays": (("gpu_pcie_replays_total",),),
    "gpu.power.brake": (("gpu_clock_event_hw_power_brake_seconds_total",), _REASONS),
    "gpu.power.limit_lowered": (("gpu_power_limit_watts", "gpu_power_default_limit_watts"),),
    "gpu.probe.preempted": (("gpu_probe_gap_ratio",),),
    "gpu.probe.slow": (("gpu_probe_clock_evidence_ratio",),),
    "gpu.saturated": _ACTIVITY,
    "gpu.slower_than_siblings": tuple(("gpu_sm_clock_hertz", *each) for each in _ACTIVITY),
    "gpu.stalled": _ACTIVITY,
    "gpu.thermal.memory": (("gpu_memory_temperature_celsius",),),
    "gpu.thermal.slowdown": (("gpu_clock_event_hw_thermal_seconds_total",), _REASONS),
    "gpu.wedged": _ACTIVITY,
}


class State(StrEnum):
    """Whether a check is made of a GPU."""

    CHECKED = "checked"
    # The product, its driver or its partitioning has no such figure.
    UNSUPPORTED = "unsupported"
    # It has one, and nobody could read it lately.
    UNKNOWN = "unknown"


def states(snapshot: Snapshot, gpu: Gpu) -> Iterator[tuple[str, State]]:
    """Yield each kind of finding about a GPU and whether it is looked for, in order of names."""
    for kind, alternatives in sorted(NEEDS.items()):
        if any(_are_fresh(snapshot, gpu, signals) for signals in alternatives):
            yield kind, State.CHECKED
        elif all(gpu.unsupported.intersection(signals) for signals in alternatives):
            yield kind, State.UNSUPPORTED
        else:
            yield kind, State.UNKNOWN


def _are_fresh(snapshot: Snapshot, gpu: Gpu, signals: tuple[str, ...]) -> bool:
    return all(SeriesKey(signal, gpu=gpu.uuid) in snapshot.samples for signal in signals)
