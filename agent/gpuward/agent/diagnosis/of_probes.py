"""Evidence of the probes: what a kernel, and a copy, met on the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.detectors import gpu_probe_preempted
from gpuward.agent.diagnosis.per_gpu import on_every_gpu, seen_on
from gpuward.agent.diagnosis.seen import UNKNOWN, worst
from gpuward.agent.diagnosis.told import told
from gpuward.agent.model import SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.diagnosis.seen import Seen

# By what a finding takes.
ENOUGH = 1.0


def _slower(*figures: str) -> Callable[[Case], Seen]:
    """Return what looks whether one of the probe's ``figures`` got worse than was learned."""
    return on_every_gpu(lambda case, gpu: worst(_shift(case, gpu, figure) for figure in figures))


def _shift(case: Case, gpu: str, figure: str) -> Seen:
    evidence = case.window.latest(SeriesKey(f"gpu_probe_{figure}_evidence_ratio", gpu=gpu))
    shift = case.window.latest(SeriesKey(f"gpu_probe_{figure}_shift_ratio", gpu=gpu))
    if evidence is None or shift is None:
        return UNKNOWN
    is_there = evidence.value >= ENOUGH
    return seen_on(case, gpu, shift.value, "ratio", 0.0, is_there=is_there, source="probe")


clock_low = _slower("clock")
kernels_slow = _slower("event")
copies_slow = _slower("host_to_device", "device_to_host")
memory_slow = _slower("device_copy")
preempted = told(gpu_probe_preempted.detect, needs="gpu_probe_gap_ratio")
