"""Detect a PCIe link that is narrower or slower than GPU and slot can do.

A link that was trained down halves the speed of loading, offloading and of peers without NVLink.
Width is no power saving, so a narrow link is bad even at rest; a low generation is normal at rest
on many cards and counts only under load (a card sat at Gen2 for hours at "100 %",
local-inference-lab/rtx6kpro#88).  What a card once had counts too: in a worse slot a poor link is
the best that there can be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuward.agent.gpu_load import was_busy
from gpuward.agent.kind import Kind
from gpuward.agent.learned_best import GENERATION_BEST, WIDTH_BEST
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

    from gpuward.agent.model import Subject
    from gpuward.agent.window import Window

WIDTH = "gpu_pcie_link_width"
WIDEST = "gpu_pcie_link_width_max"
GENERATION = "gpu_pcie_link_generation"
NEWEST = "gpu_pcie_link_generation_max"

KIND = Kind(
    name="gpu.pcie.degraded",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.DRAIN_NODE,
    meaning="The PCIe link of a GPU is narrower, or under load slower, than it can be or was.",
    raise_after_s=60.0,
    clear_after_s=60.0,
    page_when_failed=True,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a GPU must have been busy for its link's generation to count.

    A link that is slow under load for ``slow_fails_after_s`` does not train up by itself any more.
    """

    busy_s: float = 60.0
    slow_fails_after_s: float = 600.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU and trouble: failed for the width, a warning for the generation under load.

    While a GPU rests, an open finding about its generation is neither confirmed nor cleared, and
    does not age.
    """
    for gpu in window.gpus:
        width = _pair(window, gpu.uuid, WIDTH, WIDEST)
        generation = _pair(window, gpu.uuid, GENERATION, NEWEST)
        subject = subject_of(window, gpu=gpu.uuid)
        if width is None or generation is None:
            if not gpu.unsupported.intersection((WIDTH, WIDEST, GENERATION, NEWEST)):
                text = f"The PCIe link of GPU {gpu.index} is unknown."
                yield Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
        elif width[0] < width[1]:
            text = f"GPU {gpu.index} has {width[0]:.0f} of {width[1]:.0f} PCIe lanes."
            yield _finding(subject, text, _evidence(WIDTH, width), failed=True)
        elif width[0] < (had := _best(window, gpu.uuid, WIDTH_BEST)):
            text = f"GPU {gpu.index} has {width[0]:.0f} PCIe lanes; it had {had:.0f} before."
            yield _finding(subject, text, _evidence(WIDTH, (width[0], had)), failed=False)
        elif generation[0] < (best := max(generation[1], _best(window, gpu.uuid, GENERATION_BEST))):
            now = generation[0]
            text = f"GPU {gpu.index} is busy at PCIe generation {now:.0f} instead of {best:.0f}."
            finding = replace(
                _finding(subject, text, _evidence(GENERATION, (now, best)), failed=False),
                fails_after_s=limits.slow_fails_after_s if now < generation[1] else None,
            )
            if was_busy(window, gpu.uuid, limits.busy_s):
                yield finding
            else:
                text = f"How fast the PCIe link of GPU {gpu.index} is shows under load alone."
                yield replace(finding, outcome=Outcome.UNKNOWN, summary=text)


def _pair(window: Window, gpu: str, now: str, best: str) -> tuple[float, float] | None:
    current = window.latest(SeriesKey(now, gpu=gpu))
    highest = window.latest(SeriesKey(best, gpu=gpu))
    return None if current is None or highest is None else (current.value, highest.value)


def _best(window: Window, gpu: str, signal: str) -> float:
    sample = window.latest(SeriesKey(signal, gpu=gpu))
    return 0.0 if sample is None else sample.value


def _evidence(signal: str, pair: tuple[float, float]) -> Evidence:
    now, best = pair
    return Evidence(signal, now, "1", threshold=best, source="nvml")


def _finding(subject: Subject, text: str, evidence: Evidence, *, failed: bool) -> Finding:
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=text,
        result=Result.FAIL if failed else Result.WARN,
        evidence=(evidence,),
    )
