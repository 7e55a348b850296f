"""Detect GPU memory that no process is known to hold.

After a crash the driver may keep what a process held until the GPU is reset, with its pid on the
list or without; a process of another virtual machine is not listed either.  Half a GiB is context
and bookkeeping; a GiB over three listings of processes is not a race between two readings.
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
from gpuward.agent.process_identity import UNIDENTIFIED
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Gpu
    from gpuward.agent.window import Window

UNATTRIBUTED = "gpu_memory_unattributed_bytes"
PROCESSES = "gpu_processes"
ZOMBIE = "gpu_memory_zombie_bytes"
# Named in the evidence.
PIDS = 16
GIB = 2**30

KIND = Kind(
    name="gpu.memory.unattributed",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.CHECK_APPLICATION,
    meaning="Memory of a GPU is in use that no known process holds.",
    clear_after_s=30.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much must be there, in how many listings of the GPU's processes; and when it clears."""

    raise_bytes: float = 1.0 * GIB
    clear_bytes: float = 0.8 * GIB
    listings: int = 3
    recent_s: float = 60.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield per GPU; unknown while the driver's lists are missing or stale."""
    for gpu in window.gpus:
        key = SeriesKey(UNATTRIBUTED, gpu=gpu.uuid)
        latest = window.latest(key)
        if latest is None:
            about = subject_of(window, gpu=gpu.uuid)
            words = "Who holds the memory is unknown."
            yield Finding(KIND.name, about, words, outcome=Outcome.UNKNOWN)
            continue
        last = window.figures(key, window.now_s - limits.recent_s)[-limits.listings :]
        if len(last) == limits.listings and min(last) > limits.raise_bytes:
            yield _finding(window, gpu, latest.value, limits, Outcome.BAD)
        elif latest.value > limits.clear_bytes:
            yield _finding(window, gpu, latest.value, limits, Outcome.DOUBTFUL)


def _finding(window: Window, gpu: Gpu, value: float, limits: Limits, outcome: Outcome) -> Finding:
    count = window.latest(SeriesKey(PROCESSES, gpu=gpu.uuid))
    zombies = window.latest(SeriesKey(ZOMBIE, gpu=gpu.uuid))
    nobody = count is not None and count.value == 0
    dead = zombies is not None and zombies.value > limits.clear_bytes
    if dead:
        whose = "by processes that do not exist any more"
    else:
        whose = "although no process is there" if nobody else "that no known process holds"
    return Finding(
        kind=KIND.name,
        subject=subject_of(window, gpu=gpu.uuid),
        summary=f"GPU {gpu.index} has {value / GIB:.2f} GiB of memory in use {whose}.",
        outcome=outcome,
        result=Result.FAIL if nobody or dead else Result.WARN,
        evidence=(
            Evidence(
                UNATTRIBUTED, value, "bytes", limits.raise_bytes, source="nvml", at_s=window.now_s
            ),
            *(
                Evidence(one.key.signal, one.value, unit, source="nvml", at_s=one.at_s)
                for one, unit in ((count, "1"), (zombies, "bytes"))
                if one is not None
            ),
            *_reset(window, gpu, value, is_needed=nobody or dead),
        ),
        # Only a reset takes memory from the dead.
        action=Action.RESET_GPU if nobody or dead else Action.CHECK_APPLICATION,
    )


def _reset(window: Window, gpu: Gpu, value: float, *, is_needed: bool) -> Iterator[Evidence]:
    if not is_needed:
        return
    here = [one for one in window.processes if gpu.uuid in one.gpus]
    dead = sorted(one.pid for one in here if one.key == UNIDENTIFIED)
    alive = len(here) - len(dead)
    text = f"A reset of the GPU wins {value / GIB:.2f} GiB back; nothing else does."
    if alive:
        text += f" It ends the {alive} processes that are alive on it: move them first."
    yield Evidence("remedy_gpu_reset_bytes", value, "bytes", text=text, source="nvml")
    if dead:
        pids = ", ".join(map(str, dead[:PIDS]))
        yield Evidence("zombie_pids", len(dead), "1", text=pids, source="nvml")
