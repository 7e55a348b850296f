"""Detect a process whose allocator is out of sight, and say why.

Its memory can be neither explained nor foretold.  C++ backends (Triton, TensorRT) are blind by
nature, a torch process without the tap could be seen, and a degraded tap must not ask.  Stored, not
told: on a node where nobody installed the tap it is true of everything, and nothing is broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.coverage import Reason, Sight, coverage_of
from gpuward.agent.fragmentation_cache import DRIVER_USED, GIB
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
from gpuward.agent.process_identity import UNIDENTIFIED
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Subject
    from gpuward.agent.window import Window

ZOMBIE = "gpu_memory_zombie_bytes"
WORDS = {
    Reason.SILENT_TAP: "its tap says nothing new",
    Reason.DEGRADED_TAP: "its tap must not ask its allocator",
    Reason.NO_TORCH: "{engine} has no allocator that a tap could ask",
    Reason.NO_TAP: "it has no tap",
    Reason.UNREADABLE_TAPS: "taps cannot be read by the agent's user",
}

KIND = Kind(
    name="process.memory.blind",
    default_class=FindingClass.STORE,
    domain=CauseDomain.CAPACITY,
    action=Action.NONE,
    meaning="A process holds GPU memory and its allocator cannot be seen.",
    raise_after_s=60.0,
    clear_after_s=10.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """A context alone, as of monitors and desktops, is not worth a word."""

    least_bytes: float = 1.0 * GIB


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per process and GPU; unknown while the driver does not list the process's memory."""
    for process, gpu in sorted({(one.key, gpu) for one in window.processes for gpu in one.gpus}):
        subject = subject_of(window, gpu=gpu, process=process)
        found = coverage_of(window, process, gpu)
        if found.sight is Sight.TAPPED or _is_gone(window, process, gpu):
            continue
        held = window.latest(SeriesKey(DRIVER_USED, gpu=gpu, process=process))
        if held is None:
            words = "How much it holds is unknown."
            yield Finding(KIND.name, subject, words, outcome=Outcome.UNKNOWN)
        elif held.value >= limits.least_bytes:
            yield _finding(subject, held.value, found.reason, limits)


def _is_gone(window: Window, process: str, gpu: str) -> bool:
    """Return whether it is no process any more: ``gpu.memory.unattributed`` tells of its memory."""
    zombies = window.latest(SeriesKey(ZOMBIE, gpu=gpu))
    return process == UNIDENTIFIED and zombies is not None and zombies.value > 0


def _finding(subject: Subject, held: float, reason: Reason, limits: Limits) -> Finding:
    words = WORDS[reason].format(engine=subject.engine)
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=f"Process {subject.process} holds {held / GIB:.2f} GiB unseen: {words}.",
        result=Result.WARN,
        evidence=(
            Evidence(DRIVER_USED, held, "bytes", limits.least_bytes, source="nvml"),
            Evidence("blind_because", text=reason, source="tap"),
        ),
    )
