"""Evidence in memory: the KV cache, torch's allocator, and what others on the GPU hold."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from gpuward.agent.detectors import (
    memory_fragmentation,
    memory_headroom,
    memory_neighbour,
    memory_retries,
    memory_saturation,
)
from gpuward.agent.diagnosis.seen import UNKNOWN, Seen, presence, worst
from gpuward.agent.diagnosis.told import HALF, told
from gpuward.agent.fragmentation_cache import DRIVER_USED, GIB, is_known
from gpuward.agent.fragmentation_oom import OOM, Attribution, verdict
from gpuward.agent.model import Result, Subject

if TYPE_CHECKING:
    from gpuward.agent.diagnosis.case import Case

MINUTE_S = 60.0
# Research: level of the KV cache at which requests begin to be put back.
KV_FULL_RATIO = 0.90
# A context and its libraries; more is a program that does something.
REFUSED_S = 300.0
LIMITS = memory_neighbour.Limits()
LEAST_BYTES = LIMITS.least_growth_bytes

_hurts = told(memory_fragmentation.detect, hint=True)
_in_pieces = told(memory_fragmentation.detect, results=frozenset({Result.OK}))
_pressed = told(memory_neighbour.detect)
exhausted = told(memory_saturation.detect, needs="gpu_memory_free_bytes")
retries = told(memory_retries.detect, needs="process_allocation_retries_total")
headroom_low = told(memory_headroom.detect, needs="process_memory_headroom_ratio")


def kv_cache_full(case: Case) -> Seen:
    """Look whether the KV cache has been full for a minute.

    Who puts requests back found it full: a mean that is still below says nothing then.
    """
    usage = case.figures("replica_kv_cache_usage_ratio", MINUTE_S)
    if not usage:
        return UNKNOWN
    value = fmean(usage)
    is_full = value >= KV_FULL_RATIO
    if not is_full and preemptions(case).is_present:
        return UNKNOWN
    there = presence(is_there=is_full)
    return Seen(there, value, "ratio", KV_FULL_RATIO, source="engine", window_s=MINUTE_S)


def preemptions(case: Case) -> Seen:
    """Look whether requests are put back for want of room in the KV cache."""
    count = case.risen("replica_preemptions_total", MINUTE_S)
    if count is None:
        return UNKNOWN
    return Seen(presence(is_there=count > 0), count, "1", 0.0, source="engine", window_s=MINUTE_S)


def allocator_fragmented(case: Case) -> Seen:
    """Look whether the allocator of one of the processes is in pieces.

    A hint while the detector finds nobody who pays for it.  Unknown without a tap: nothing else
    sees it.
    """
    seen = _hurts(case)
    if seen.is_present:
        return seen
    pieces = _in_pieces(case)
    if pieces.is_present:
        return replace(pieces, strength=HALF)
    return seen if _is_seen(case) else UNKNOWN


def refused(case: Case) -> Seen:
    """Look whether a request found no memory, which in one piece would have been enough."""
    if not _is_seen(case):
        return UNKNOWN
    since_s = case.window.now_s - REFUSED_S
    events = [
        event
        for event in case.window.events(OOM, since_s)
        if event.process in case.processes and verdict(event) is Attribution.FRAGMENTATION
    ]
    last = events[-1] if events else None
    return Seen(
        presence(is_there=last is not None),
        float(len(events)),
        "1",
        0.0,
        text=last.text if last else "",
        gpu=last.gpu if last else "",
        source="tap",
        at_s=last.at_s if last else None,
        window_s=REFUSED_S,
    )


def stranger(case: Case) -> Seen:
    """Look whether a process that is not of the replica has taken its room."""
    seen = _pressed(case)
    return seen if seen.is_present else worst(_stranger(case, gpu) for gpu in case.gpus)


def _stranger(case: Case, gpu: str) -> Seen:
    """Look at the strangers on ``gpu``: one matters when it has grown, or when nothing is left."""
    held = {
        key.process: sample.value
        for key in case.window.keys(DRIVER_USED)
        if key.gpu == gpu and (sample := case.window.latest(key)) is not None
    }
    own = [process for process in case.processes if process in held]
    if not own:
        return UNKNOWN
    strangers = {process: size for process, size in held.items() if process not in own}
    largest = max(strangers, key=lambda process: (strangers[process], process), default="")
    growth = memory_neighbour.growth_around(case.window, Subject(gpu=gpu, process=own[0]), LIMITS)
    grown = 0.0 if growth is None else growth.others.get(largest, 0.0)
    size = strangers.get(largest, 0.0)
    is_full = exhausted(case).gpu == gpu
    return Seen(
        presence(is_there=size >= LEAST_BYTES and (grown >= LEAST_BYTES or is_full)),
        size,
        "bytes",
        LEAST_BYTES,
        text=f"process {largest} grew by {grown / GIB:.1f} GiB" if largest else "",
        gpu=gpu,
        source="nvml",
        at_s=case.window.now_s,
        window_s=LIMITS.span_s,
    )


def _is_seen(case: Case) -> bool:
    """Return whether the allocator of each process is known on each of its GPUs."""
    pairs = [(process, gpu) for process in case.processes for gpu in case.gpus]
    return any(is_known(case.window, process, gpu) for process, gpu in pairs)
