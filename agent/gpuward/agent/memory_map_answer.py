"""Understand what a tap answered to the question for its memory map, without trusting it.

What the allocator of a GPU cannot be (blocks beyond their segment, over one another, segments
without end) is no answer, whatever its checksum says.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from math import ceil

from gpuward.memory_map.model import Block, BlockState, Segment
from gpuward.memory_map.plausible import is_plausible
from gpuward.tap import map_layout
from gpuward.tap.layout import LayoutError

# A tap keeps a question until it may walk again, if that is before the question's deadline; one
# that comes later may find that the tap has just walked for itself.
ASKED_EARLIER_S = 3
# Where the nonce lies in the header.
NONCE_AT = 48


@dataclass(frozen=True, slots=True)
class Taken:
    """A map of one GPU; ``is_truncated``: there was more than the answer may hold."""

    segments: tuple[Segment, ...]
    is_truncated: bool = False
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no map; ``reason`` is a word, a colon, and what it means.

    ``is_untouched``: the process was not walked for this, so that it may soon be asked again.
    """

    reason: str
    is_untouched: bool = False


_REFUSALS = {
    map_layout.DEGRADED: "degraded: asking this allocator could stop the process for ever",
    map_layout.TOO_LARGE: "too large: the allocator has more blocks than may be walked in a"
    " process that serves",
    map_layout.RECORDING: "recording: the process records its allocations, which makes a walk slow",
    map_layout.FAILED: "failed: torch could not say",
    map_layout.UNKNOWN_KIND: "no tap: the process has a tap of another version",
}


def decode(raw: bytes, nonce: bytes, gpu: str) -> Taken | Refused | None:
    """Return what the answer says of ``gpu``; ``None`` when it answers another question."""
    # Before anything else: a flood of foreign answers must cost next to nothing.
    if not raw.startswith(nonce, NONCE_AT):
        return None
    try:
        answer = map_layout.unpack_map(raw)
    except LayoutError as error:
        return Refused(f"unusable: the answer cannot be read: {error}")
    if answer.outcome == map_layout.BUSY:
        left_s = max(1, ceil(answer.retry_after_ms / 1000) - ASKED_EARLIER_S)
        reason = f"busy: the process was walked a moment ago; ask again in {left_s} s"
        return Refused(reason, is_untouched=True)
    if answer.outcome != map_layout.ANSWERED:
        return Refused(_REFUSALS.get(answer.outcome, "failed: the tap does not say why"))
    segments = tuple(
        _segment(segment) for segment in answer.segments if _gpu_of(answer, segment) == gpu
    )
    if not is_plausible(segments):
        return Refused("unusable: no allocator can be as the answer says")
    return Taken(segments, bool(answer.flags & map_layout.TRUNCATED))


def _gpu_of(answer: map_layout.MemoryMap, segment: map_layout.MapSegment) -> str:
    return f"GPU-{uuid.UUID(bytes=answer.gpus[segment.gpu].gpu_uuid)}"


def _segment(segment: map_layout.MapSegment) -> Segment:
    states = {
        map_layout.ACTIVE: BlockState.ALLOCATED,
        map_layout.PENDING_FREE: BlockState.PENDING_FREE,
        map_layout.FREE: BlockState.FREE,
    }
    return Segment(
        address=segment.address,
        size=segment.size,
        # A state that we do not know is in use: what is called free must be free.
        blocks=tuple(
            Block(offset, size, requested, states.get(state, BlockState.ALLOCATED))
            for offset, size, requested, state in segment.blocks
        ),
        small_pool=bool(segment.flags & map_layout.SMALL_POOL),
        expandable=bool(segment.flags & map_layout.EXPANDABLE),
        private_pool=segment.pool != (0, 0),
        stream=segment.stream,
        page_bytes=segment.page_mib << 20,
    )
