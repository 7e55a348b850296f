"""What would help a process that runs short of memory: what it wins, in bytes and for the service.

None is advised that would win nothing: a restart gives back what is stranded, not what is in use,
nor what graphs will take again; emptying the cache gives back what is releasable, and stalls the
device for it.  Expandable segments kill most stranding (cosmos-rl: 127 to 97 GB reserved), but with
``max_split_size_mb`` they grow without bound (pytorch issue 193400), and where they are on already,
only a restart is left.  The KV cache keeps the size that it got at the start: what is won becomes
blocks only where somebody gives it to the cache.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation import EXPANDABLE_UNSURE_RATIO
from gpuward.agent.fragmentation_cache import GIB, LIMITS, MIB
from gpuward.agent.model import Action, Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.fragmentation_cache import Cache
    from gpuward.agent.kv_room import KvRoom
    from gpuward.agent.memory_around import Around

VLLM = "vllm"
# What is won back below this is not worth the stall.
WORTH_A_FLUSH_BYTES = 256 * MIB
# Rounding wastes 0.5 % in recorded snapshots; from here on somebody asked for it.
ROUNDING_WASTE_RATIO = 0.05


def action(cache: Cache, known: Around) -> Action:
    """Return the least harmful thing: a restart only where enough is stranded for it to win."""
    if _certain(cache, known).is_notable():
        return Action.RESTART_APPLICATION
    return Action.CHECK_APPLICATION


def remedies(cache: Cache, known: Around) -> Iterator[Evidence]:
    """Yield what would win memory back, what helps the process itself first."""
    found = tuple(_remedies(cache, known))
    yield from found
    if found and known.room is None:
        words = "What that is in KV blocks is unknown: no page of the engine tells its cache."
        yield Evidence("remedies_in_kv_blocks", text=words)


def utilization_change(
    cache: Cache, total_bytes: float | None, engine: str, known: Around
) -> Iterator[Evidence]:
    """Yield how much vLLM's ``gpu_memory_utilization`` has to fall for safe headroom."""
    wanted = f"{LIMITS.headroom_warn_ratio:.0f} large requests"
    if engine == VLLM and total_bytes:
        yield from smaller_share(_missing(cache), total_bytes, wanted, known)


def smaller_share(
    missing: float, total_bytes: float, wanted: str, known: Around
) -> Iterator[Evidence]:
    """Yield the share of the GPU that leaves ``missing`` bytes more than now, if there is one."""
    if missing <= 0 or known.is_sliced:
        return
    # The engine takes two digits.
    ratio = (int(100 * missing / total_bytes) + 1) / 100
    now = known.utilization_limit
    if now is not None and now <= ratio:
        # Nothing would be left: the model needs more memory, not a smaller share of it.
        return
    lost = ratio * total_bytes
    yield Evidence(
        "gpu_memory_utilization_change",
        -ratio,
        "ratio",
        text=f"With --gpu-memory-utilization lower by {ratio:.2f} there is room for {wanted}; "
        f"the KV cache loses {lost / GIB:.1f} GiB{_in_blocks(known.room, lost)}."
        f"{_fits(known.room, lost)}",
        source="tap",
    )
    if now is not None:
        safe = round(now - ratio, 2)
        text = f"--gpu-memory-utilization {safe:.2f} is safe; it is {now:.2f}."
        yield Evidence("gpu_memory_utilization_safe", safe, "ratio", now, text, "tap")


def _remedies(cache: Cache, known: Around) -> Iterator[Evidence]:
    yield from _against_pieces(cache, known)
    if cache.releasable >= WORTH_A_FLUSH_BYTES:
        yield remedy(
            "empty_cache",
            cache.releasable,
            "torch.cuda.empty_cache() gives back to other processes, with a stall,",
            after="; to the process itself it is no more room than it has",
        )
    waste = known.rounding_waste_ratio * known.active
    rounds = known.roundup_divisions is not None
    if rounds and known.rounding_waste_ratio >= ROUNDING_WASTE_RATIO and waste >= 256 * MIB:
        yield remedy(
            "roundup",
            waste,
            f"roundup_power2_divisions:{known.roundup_divisions:.0f} rounds requests up; with more "
            "divisions, or without it, less is taken after the next start: up to",
            known.room,
        )
    yield from _against_want(cache, known)


def _against_pieces(cache: Cache, known: Around) -> Iterator[Evidence]:
    if cache.expandable and known.max_split_size is not None:
        grown = cache.stranded + cache.releasable
        if grown >= WORTH_A_FLUSH_BYTES:
            yield remedy(
                "without_max_split_size",
                grown,
                "Without max_split_size_mb in PYTORCH_CUDA_ALLOC_CONF expandable segments do not"
                " grow without bound after the next start: up to",
                known.room,
            )
    certain = _certain(cache, known)
    if not certain.is_notable():
        return
    won = certain.stranded
    yield remedy("restart", won, "A rolling restart wins back, of what is stranded, up to")
    if not cache.expandable:
        yield remedy(
            "expandable_segments",
            won,
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, without max_split_size_mb,"
            " avoids most of it after the next start: up to",
            known.room,
        )
        if known.max_split_size is None:
            yield remedy(
                "max_split_size",
                won,
                "Where expandable segments cannot be used (sleep mode), max_split_size_mb keeps"
                " large blocks whole: up to",
                known.room,
            )
        if known.roundup_divisions is None:
            yield remedy(
                "roundup",
                won,
                "Or roundup_power2_divisions:8 makes sizes alike, at the price of rounding: up to",
                known.room,
            )


def _against_want(cache: Cache, known: Around) -> Iterator[Evidence]:
    missing = _missing(cache)
    if missing <= 0:
        return
    wanted = f"room for {LIMITS.headroom_warn_ratio:.0f} large requests"
    if known.neighbours >= WORTH_A_FLUSH_BYTES:
        enough = "enough" if known.neighbours >= missing else "not enough"
        yield remedy(
            "fewer_neighbours",
            known.neighbours,
            "Without the other processes on the GPU the process has more room by",
            after=f", {enough} for {wanted}",
        )
    # In one piece, what is stranded may be all that is missing.
    if missing > _certain(cache, known).stranded:
        yield remedy(
            "more_memory",
            missing,
            "A larger GPU, or the model split over more of them, has to give",
            after=f" for {wanted}",
        )


def _certain(cache: Cache, known: Around) -> Cache:
    """Return ``cache`` with only those stranded bytes that a restart certainly gives back."""
    if known.is_walked:
        return cache
    unsure = known.private_pool
    if cache.expandable:
        unsure += EXPANDABLE_UNSURE_RATIO * cache.reserved
    return replace(cache, stranded=max(0.0, cache.stranded - unsure))


def _missing(cache: Cache) -> float:
    """Return the bytes that safe headroom lacks, 0 when it lacks none or nobody knows."""
    if cache.headroom is None or cache.mean_request is None:
        return 0.0
    return max(0.0, LIMITS.headroom_warn_ratio * cache.mean_request - cache.headroom)


def remedy(
    name: str, wins: float, words: str, room: KvRoom | None = None, after: str = ""
) -> Evidence:
    """Return what ``name`` wins; ``room``: the KV cache that may be given it."""
    worth = f"; given to the KV cache {room.worth(wins)}" if room else ""
    text = f"{words} {wins / GIB:.2f} GiB{worth}{after}."
    return Evidence(f"remedy_{name}_bytes", wins, "bytes", text=text, source="tap")


def _in_blocks(room: KvRoom | None, size: float) -> str:
    return f", {room.worth(size)} of {room.blocks:,.0f}" if room else ""


def _fits(room: KvRoom | None, lost: float) -> str:
    fits = room.still_fits(lost) if room else None
    if fits is None:
        return ""
    return " What is in use now still fits." if fits else " What is in use now does not fit in it."
