"""Detect NVLink links that are down, or that have to repair what they carry.

With a link down, tensor parallel ranks wait for the slowest pair; on an HGX board a single one of
18 is reason enough for NVIDIA's own health check to drain the node.
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

LINKS = "gpu_nvlink_links"
ACTIVE = "gpu_nvlink_links_active"
ERRORS = (
    "gpu_nvlink_replay_errors_total",
    "gpu_nvlink_recovery_errors_total",
    "gpu_nvlink_crc_errors_total",
)

KIND = Kind(
    name="gpu.nvlink.degraded",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.DRAIN_NODE,
    meaning="NVLink links of a GPU are down, or carry errors.",
    raise_after_s=30.0,
    clear_after_s=120.0,
    page_when_failed=True,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Errors within ``recent_s``: replays and recoveries are rare, CRC errors come in bursts."""

    recent_s: float = 290.0
    most_errors: float = 100.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU that has links: failed when one is down, a warning for many errors.

    A GPU all of whose links are down is one that nobody connected: a bridge that is not there.
    """
    for gpu in window.gpus:
        if LINKS in gpu.unsupported:
            continue
        links = window.latest(SeriesKey(LINKS, gpu=gpu.uuid))
        active = window.latest(SeriesKey(ACTIVE, gpu=gpu.uuid))
        subject = subject_of(window, gpu=gpu.uuid)
        if links is None or active is None:
            text = f"NVLink of GPU {gpu.index} is unknown."
            yield Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
            continue
        risen = {signal: _rise(window, gpu.uuid, signal, limits) for signal in ERRORS}
        down = links.value - active.value if active.value else 0.0
        if down or sum(risen.values()) > limits.most_errors:
            yield Finding(
                kind=KIND.name,
                subject=subject,
                summary=(
                    f"{down:.0f} of {links.value:.0f} NVLink links of GPU {gpu.index} are down,"
                    f" {sum(risen.values()):.0f} errors on the others."
                ),
                result=Result.FAIL if down else Result.WARN,
                evidence=(
                    Evidence("gpu_nvlink_links_down", down, "1", threshold=0.0, source="nvml"),
                    *(Evidence(f"{name}_new", n, "1", source="nvml") for name, n in risen.items()),
                ),
            )


def _rise(window: Window, gpu: str, signal: str, limits: Limits) -> float:
    return window.risen(SeriesKey(signal, gpu=gpu), window.now_s - limits.recent_s)
