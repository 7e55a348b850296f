"""Detect a PCIe link that has to send too much again.

A replay repairs a damaged packet, and a few are normal; what is normal grows with the link's speed
and width.  The rates are those of DCGM's health watch, from the PCIe specification's bit error
rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
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
)
from gpuward.agent.series_key import series_key
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

REPLAYS = "gpu_pcie_replays_total"
FATAL = ("gpu_pcie_errors_fatal_total", "gpu_aer_fatal_total")
GENERATION = "gpu_pcie_link_generation"
WIDTH = "gpu_pcie_link_width"
# Replays a minute and lane, for each generation.
NORMAL_PER_MINUTE = {1: 0.15, 2: 0.3, 3: 0.48, 4: 0.96, 5: 1.92, 6: 3.84}
MINUTE_S = 60.0

KIND = Kind(
    name="gpu.pcie.replays",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.DRAIN_NODE,
    meaning="The PCIe link of a GPU damages packets: too many replays, or fatal errors.",
    clear_after_s=600.0,
    page_when_failed=True,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far back is looked."""

    recent_s: float = 290.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU: failed after a fatal error, a warning for too many replays."""
    since_s = window.now_s - limits.recent_s
    for gpu in window.gpus:
        # NVML and the kernel count the same errors, and either may lack the counter.
        fatal = max(window.risen(series_key(name, gpu.uuid), since_s) for name in FATAL)
        replays = window.risen(series_key(REPLAYS, gpu.uuid), since_s)
        subject = subject_of(window, gpu=gpu.uuid)
        if window.latest(series_key(REPLAYS, gpu.uuid)) is None:
            if REPLAYS not in gpu.unsupported:
                text = f"PCIe replays of GPU {gpu.index} are unknown."
                yield Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
            continue
        normal = _normal_per_minute(window, gpu.uuid)
        per_minute = replays * MINUTE_S / limits.recent_s
        if fatal == 0 and per_minute <= normal:
            continue
        yield Finding(
            kind=KIND.name,
            subject=subject,
            summary=(
                f"The PCIe link of GPU {gpu.index} had {fatal:.0f} fatal errors and"
                f" {per_minute:.0f} replays a minute."
            ),
            result=Result.FAIL if fatal else Result.WARN,
            evidence=(
                Evidence("gpu_pcie_replays_per_minute", per_minute, "1/min", normal, source="nvml"),
                Evidence("gpu_pcie_errors_fatal_new", fatal, "1", threshold=0.0),
            ),
        )


def _normal_per_minute(window: Window, gpu: str) -> float:
    generation = window.latest(series_key(GENERATION, gpu))
    width = window.latest(series_key(WIDTH, gpu))
    if generation is None or width is None:
        # What the fastest link that there is may have.
        return ceil(16 * max(NORMAL_PER_MINUTE.values()))
    return ceil(NORMAL_PER_MINUTE.get(int(generation.value), 3.84) * width.value)
