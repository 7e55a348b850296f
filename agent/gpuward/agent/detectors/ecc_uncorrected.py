"""Detect memory errors that were not corrected: something has computed with wrong data.

The count starts with the driver, so what it shows may be old: only a rise is news and pages; a
count that stands says that the GPU needs a look, and a reset sets it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Outcome,
    Result,
    SeriesKey,
)
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

COUNT = "gpu_ecc_uncorrected_total"
PLACES = ("gpu_ecc_dram_uncorrected_total", "gpu_ecc_sram_uncorrected_total")

KIND = Kind(
    name="gpu.ecc.uncorrected",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.RESET_GPU,
    meaning="Errors of a GPU's memory were not corrected; it pages while they go on.",
    clear_after_s=60.0,
    page_when_failed=True,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a rise is news."""

    recent_s: float = 290.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU: failed while the count rises, a warning while it stands above zero."""
    for gpu in window.gpus:
        if COUNT in gpu.unsupported:
            continue
        key = SeriesKey(COUNT, gpu=gpu.uuid)
        sample = window.latest(key)
        subject = subject_of(window, gpu=gpu.uuid)
        if sample is None:
            text = f"Memory errors of GPU {gpu.index} are not known."
            yield Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
        elif sample.value > 0:
            rise = window.risen(key, window.now_s - limits.recent_s)
            yield Finding(
                kind=KIND.name,
                subject=subject,
                summary=f"GPU {gpu.index} had {sample.value:.0f} uncorrected memory errors.",
                result=Result.FAIL if rise > 0 else Result.WARN,
                evidence=(
                    Evidence("gpu_ecc_uncorrected_new", rise, "1", threshold=0.0, source="nvml"),
                    *_counts(window, gpu.uuid),
                ),
            )


def _counts(window: Window, gpu: str) -> Iterator[Evidence]:
    for signal in (COUNT, *PLACES):
        sample = window.latest(SeriesKey(signal, gpu=gpu))
        if sample is not None:
            yield Evidence(signal, sample.value, "1", source="nvml", at_s=sample.at_s)
