"""Turn what a tap published into samples and out-of-memory events: pure, one record at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuward.agent.allocator_conf import AllocatorConf
from gpuward.agent.fragmentation import (
    AllocatorState,
    Walked,
    headroom_fast,
    headroom_ratio,
    headroom_safe,
    rounding_waste_ratio,
    unusable_free_ratio,
)
from gpuward.agent.fragmentation_oom import CAUSES, OOM, verdict
from gpuward.agent.gpu_names import gpu_name
from gpuward.agent.model import Event, Process, Sample
from gpuward.agent.series_key import series_key
from gpuward.tap import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.samplers.tap_record import PackedRecord

# A walk over the blocks describes the counters beside it exactly while both are of one moment, and
# its shares of what is free hold while that has hardly changed; the tap walks twice a minute.
SUMMARY_FRESH_NS = 2_000_000_000
SUMMARY_RECENT_NS = 150_000_000_000
MOVED_RATIO = 0.25
# Counters of memory that is not mapped may exceed the card, but never this: vllm issue 33625 shows
# 198 GB reserved on a card of 140 GB.
MAX_RESERVED_BY_TOTAL = 2
# No GPU has more; used where the driver did not say how much there is.
UNKNOWN_TOTAL_BYTES = 2**43

HEADROOM = "process_memory_headroom_bytes"
HEADROOM_FAST = "process_memory_headroom_fast_bytes"
HEADROOM_RATIO = "process_memory_headroom_ratio"
MEAN_REQUEST = "process_memory_mean_large_request_bytes"
UNUSABLE = "process_memory_unusable_free_ratio"
ROUNDING = "process_memory_rounding_waste_ratio"
EXPANDABLE = "process_memory_expandable_segments"
MAX_SPLIT = "process_memory_max_split_size_bytes"
ROUNDUP = "process_memory_roundup_divisions"
# Of several processes of one name the one that is worst off; all else is summed.
_TOGETHER = {
    HEADROOM: min,
    HEADROOM_FAST: min,
    HEADROOM_RATIO: min,
    MEAN_REQUEST: max,
    UNUSABLE: max,
    ROUNDING: max,
    EXPANDABLE: min,
    MAX_SPLIT: min,
    ROUNDUP: min,
}
UNSET = AllocatorConf()


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """A GPU's memory as the driver says, bytes."""

    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A record, when it was written on the agent's clock, and the mean large request before it."""

    record: PackedRecord
    at_s: float
    mean_large_request: float | None = None
    conf: AllocatorConf = UNSET


def is_plausible(record: PackedRecord, device: DeviceMemory | None) -> bool:
    """Return whether a GPU could be so; the writer is not trusted."""
    total = device.total if device is not None else UNKNOWN_TOTAL_BYTES
    now = record.all_pools
    largest = max(
        now.reserved_bytes,
        now.active_bytes,
        now.allocated_bytes,
        now.requested_bytes,
        now.inactive_split_bytes,
        record.totals.private_pool_reserved_bytes,
        # Sizes, all of them.
        *(record.summary[4:] if record.flags & layout.SUMMARY_VALID else ()),
    )
    return largest <= MAX_RESERVED_BY_TOTAL * total and record.oom.mono_ns <= record.mono_ns


def is_degraded(record: PackedRecord) -> bool:
    """Return whether the tap may never ask this allocator; an idle process is asked later."""
    return bool(record.flags & layout.DEGRADED) and not record.flags & layout.IDLE


def allocator_state(record: PackedRecord) -> AllocatorState:
    """Return what ``record`` says of the allocator."""
    now = record.all_pools
    return AllocatorState(
        reserved=now.reserved_bytes,
        active=now.active_bytes,
        inactive_split=now.inactive_split_bytes,
        expandable=bool(record.flags & layout.EXPANDABLE),
        private_reserved=record.totals.private_pool_reserved_bytes,
        walked=_walked(record),
    )


def _walked(record: PackedRecord) -> Walked | None:
    """Return what the last walk says of now: all of it, or its shares of what is free."""
    summary, now = record.summary, record.all_pools
    age_ns = record.mono_ns - summary.mono_ns
    if not record.flags & layout.SUMMARY_VALID or not 0 <= age_ns <= SUMMARY_RECENT_NS:
        return None
    is_fresh = age_ns <= SUMMARY_FRESH_NS
    largest_free = summary.largest_free_bytes if is_fresh else None
    releasable, private = summary.releasable_bytes, summary.private_free_bytes
    free_then = summary.free_bytes + private
    free_now = max(0, now.reserved_bytes - now.active_bytes)
    if is_fresh and free_now == free_then:
        pending = summary.pending_free_bytes
        return Walked(releasable, summary.stranded_bytes, private, pending, largest_free)
    is_exact_without = not record.flags & layout.EXPANDABLE
    is_exact_without &= not record.totals.private_pool_reserved_bytes
    has_moved = abs(free_now - free_then) > MOVED_RATIO * free_then
    if is_exact_without or has_moved or not free_then:
        return None
    share = free_now / free_then
    releasable = min(free_now, int(share * releasable))
    private = min(free_now - releasable, int(share * private))
    return Walked(releasable, free_now - releasable - private, private, largest_free=largest_free)


def samples(
    members: Sequence[Reading], process_key: str, gpu: str, device: DeviceMemory | None
) -> Iterator[Sample]:
    """Yield the series of the processes ``members`` (one at least), which go by one key, on a GPU.

    Sizes and counters are sums; headroom is that of the member that has least and is absent while
    the driver is silent, the mean request that of the member that asks for most.
    """
    figures = [_figures(reading, device) for reading in members]
    at_s = max(reading.at_s for reading in members)
    for signal, value in (figures[0] if len(figures) == 1 else _together(figures)).items():
        yield Sample(series_key(signal, gpu, process_key), at_s, float(value))


def _together(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    together = {}
    for signal in dict.fromkeys(name for one in figures for name in one):
        values = [one[signal] for one in figures if signal in one]
        together[signal] = _TOGETHER.get(signal, sum)(values)
    return together


def _figures(reading: Reading, device: DeviceMemory | None) -> dict[str, float]:
    state, record = allocator_state(reading.record), reading.record
    now, totals = record.all_pools, record.totals
    figures: dict[str, float] = {
        "process_memory_reserved_bytes": now.reserved_bytes,
        "process_memory_active_bytes": now.active_bytes,
        "process_memory_allocated_bytes": now.allocated_bytes,
        "process_memory_requested_bytes": now.requested_bytes,
        "process_memory_stranded_bytes": state.stranded,
        "process_memory_releasable_bytes": state.releasable,
        "process_memory_private_pool_bytes": totals.private_pool_reserved_bytes,
        ROUNDING: rounding_waste_ratio(now.active_bytes, now.requested_bytes),
        EXPANDABLE: int(state.expandable),
        "process_memory_tapped_processes": 1,
        "process_allocation_retries_total": totals.alloc_retries,
        "process_allocation_stream_syncs_total": totals.sync_all_streams,
        "process_allocation_driver_calls_total": totals.device_allocs + totals.device_frees,
        "process_out_of_memory_total": totals.ooms,
    }
    if reading.conf.max_split_size_bytes is not None:
        figures[MAX_SPLIT] = reading.conf.max_split_size_bytes
    if reading.conf.roundup_divisions is not None:
        figures[ROUNDUP] = reading.conf.roundup_divisions
    mean = reading.mean_large_request
    if state.walked is not None:
        figures["process_memory_private_pool_free_bytes"] = state.walked.private_free
    if mean is not None:
        figures[MEAN_REQUEST] = mean
        if state.walked is not None and state.walked.largest_free is not None:
            blocks = zip(record.free_bytes, record.free_counts, strict=True)
            figures[UNUSABLE] = unusable_free_ratio(list(blocks), mean)
    if device is not None:
        figures |= _headroom(state, device, mean)
    return figures


def _headroom(state: AllocatorState, device: DeviceMemory, mean: float | None) -> dict[str, float]:
    headroom = headroom_safe(state, device.free)
    figures: dict[str, float] = {
        HEADROOM: headroom,
        HEADROOM_FAST: headroom_fast(state, device.free),
    }
    ratio = headroom_ratio(headroom, mean)
    if ratio is not None:
        figures[HEADROOM_RATIO] = ratio
    return figures


def oom_event(
    tap_name: str, reading: Reading, process: Process, *, neighbours_releasable: int, gpu: str = ""
) -> Event:
    """Return the out-of-memory error that ``reading`` carries, with its cause.

    ``gpu``: the card, where the process has only a slice of it.
    ``neighbours_releasable``: bytes that caches of other processes on the GPU could give back.
    """
    record, oom = reading.record, reading.record.oom
    event = Event(
        kind=OOM,
        at_s=reading.at_s - (record.mono_ns - oom.mono_ns) / 1e9,
        identity=f"{tap_name}:{oom.mono_ns}",
        gpu=gpu or gpu_name(record.gpu_uuid),
        process=process.key,
        pid=process.pid,
        values={
            "requested_bytes": float(oom.request_bytes),
            "device_free_bytes": float(oom.device_free_bytes),
            "cache_free_bytes": float(max(0, oom.reserved_bytes - oom.active_bytes)),
            "neighbours_releasable_bytes": float(neighbours_releasable),
            "reserved_bytes": float(oom.reserved_bytes),
        },
    )
    cause = verdict(event)
    why = f"; {CAUSES[cause]}" if cause else ""
    size_mib = oom.request_bytes / 2**20
    return replace(event, text=f"A request of {size_mib:.0f} MiB found no memory{why}.")
