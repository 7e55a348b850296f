"""Show every block of an allocator in the shape of ``torch.cuda.memory_snapshot()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuward.simulator.allocator_pools import DEFAULT_POOL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuward.simulator.allocator_blocks import Block


def describe(blocks: Iterable[Block], device_index: int) -> list[dict[str, Any]]:
    """Return the segments that ``blocks`` lie in, by address.

    An expandable segment appears as one segment for each unbroken mapped range.
    """
    heads = [block for block in blocks if block.previous is None or not block.previous.mapped]
    segments = [_segment(head, device_index) for head in heads]
    return sorted(segments, key=lambda segment: int(segment["address"]))


def _segment(head: Block, device_index: int) -> dict[str, Any]:
    run = list(_mapped_run(head))
    active = [block for block in run if block.active]
    return {
        "device": device_index,
        "address": head.address,
        "total_size": sum(block.size for block in run),
        "allocated_size": sum(block.size for block in active if block.allocated),
        "active_size": sum(block.size for block in active),
        "requested_size": sum(block.requested for block in active),
        "stream": head.stream,
        "segment_type": "small" if head.pool.is_small else "large",
        "segment_pool_id": head.pool.private_id or DEFAULT_POOL,
        "is_expandable": head.expandable is not None,
        "frames": [],
        "blocks": [_block(block) for block in run],
    }


def _mapped_run(head: Block) -> Iterator[Block]:
    block: Block | None = head
    while block is not None and block.mapped:
        yield block
        block = block.next


def _state(block: Block) -> str:
    if block.allocated:
        return "active_allocated"
    return "active_pending_free" if block.active else "inactive"


def _block(block: Block) -> dict[str, Any]:
    return {
        "address": block.address,
        "size": block.size,
        "requested_size": block.requested,
        "state": _state(block),
        "frames": [],
    }
