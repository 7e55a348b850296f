"""Detect a GPU whose memory is almost all in use.

Engines fill memory on purpose (vLLM takes nine tenths at its start), so a high share is normal and
the bytes that are left decide: below them the next large request, graph capture or NCCL buffer
fails with an out-of-memory error.  Free is what NVML calls free: what the driver keeps for itself
does not count as in use (research on ``nvmlDeviceGetMemoryInfo`` v2).
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

# The driver counts an allocator's cache as used: memory that looks full may be free to its owner.
CONFIDENCE = 0.6
USED = "gpu_memory_used_bytes"
FREE = "gpu_memory_free_bytes"

KIND = Kind(
    name="gpu.memory.saturation",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.SCALE_UP,
    meaning="Almost all memory of a GPU is in use, so the next large request fails.",
    raise_after_s=5.0,
    clear_after_s=30.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Free memory by used plus free; two limits, so that a value on the edge does not flap."""

    # A vLLM server leaves a tenth free by default (gpu_memory_utilization 0.9): that is healthy.
    raise_free_ratio: float = 0.03
    clear_free_ratio: float = 0.05


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU: bad below ``raise_free_ratio``, doubtful below ``clear_free_ratio``.

    Unknown while a GPU's figures are missing or stale: a hung driver does not clear anything.
    """
    for gpu in window.gpus:
        if USED in gpu.unsupported or FREE in gpu.unsupported:
            continue
        used = window.latest(SeriesKey(USED, gpu=gpu.uuid))
        free = window.latest(SeriesKey(FREE, gpu=gpu.uuid))
        subject = subject_of(window, gpu=gpu.uuid)
        if used is None or free is None or used.value + free.value <= 0:
            yield Finding(
                KIND.name, subject, "Memory of the GPU is unknown.", outcome=Outcome.UNKNOWN
            )
            continue
        ratio = free.value / (used.value + free.value)
        if ratio >= limits.clear_free_ratio:
            continue
        yield Finding(
            kind=KIND.name,
            subject=subject,
            summary=f"GPU {gpu.index} has {free.value / 2**30:.1f} GiB of memory left.",
            outcome=Outcome.BAD if ratio < limits.raise_free_ratio else Outcome.DOUBTFUL,
            result=Result.WARN,
            confidence=CONFIDENCE,
            evidence=(
                Evidence(
                    name="gpu_memory_free_ratio",
                    value=ratio,
                    unit="ratio",
                    threshold=limits.raise_free_ratio,
                    source="nvml",
                    at_s=free.at_s,
                ),
                Evidence(FREE, free.value, "bytes", source="nvml", at_s=free.at_s),
                Evidence(USED, used.value, "bytes", source="nvml", at_s=used.at_s),
            ),
        )
