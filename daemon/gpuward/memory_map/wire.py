"""Segments of a memory map as ``gpuward.v1`` messages, there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.memory_map.model import Block, BlockState, Segment
from gpuward.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A tap's answer of 4 MiB has at most 131,000 blocks, of at most 36 bytes each in a message.
MAX_MESSAGE_BYTES = 16 << 20


def messages(segments: Iterable[Segment]) -> Iterator[agent_pb2.MemorySegment]:
    """Yield what an agent answers."""
    return map(_segment_message, segments)


def segments(answer: agent_pb2.GetMemoryMapResponse) -> tuple[Segment, ...]:
    """Return what an agent answered; blocks of a state that is not known count as allocated."""
    return tuple(map(_segment, answer.segments))


def _segment_message(segment: Segment) -> agent_pb2.MemorySegment:
    return agent_pb2.MemorySegment(
        address=segment.address,
        size_bytes=segment.size,
        small_pool=segment.small_pool,
        expandable=segment.expandable,
        private_pool=segment.private_pool,
        stream=segment.stream,
        blocks=map(_block_message, segment.blocks),
        page_bytes=segment.page_bytes,
    )


def _block_message(block: Block) -> agent_pb2.MemoryBlock:
    return agent_pb2.MemoryBlock(
        offset_bytes=block.offset,
        size_bytes=block.size,
        requested_bytes=block.requested,
        state=_MESSAGE_OF_STATE[block.state],
    )


def _segment(message: agent_pb2.MemorySegment) -> Segment:
    return Segment(
        address=message.address,
        size=message.size_bytes,
        blocks=tuple(map(_block, message.blocks)),
        small_pool=message.small_pool,
        expandable=message.expandable,
        private_pool=message.private_pool,
        stream=message.stream,
        page_bytes=message.page_bytes,
    )


def _block(message: agent_pb2.MemoryBlock) -> Block:
    state = _STATE_OF_MESSAGE.get(message.state, BlockState.ALLOCATED)
    return Block(message.offset_bytes, message.size_bytes, message.requested_bytes, state)


_MESSAGE_OF_STATE = {
    BlockState.ALLOCATED: agent_pb2.BLOCK_STATE_ALLOCATED,
    BlockState.PENDING_FREE: agent_pb2.BLOCK_STATE_PENDING_FREE,
    BlockState.FREE: agent_pb2.BLOCK_STATE_FREE,
}
_STATE_OF_MESSAGE = {message: state for state, message in _MESSAGE_OF_STATE.items()}
