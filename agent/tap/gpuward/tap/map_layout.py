"""Byte layout of a question to a tap and of its answer, the map of a process's GPU memory.

The agent creates ``<uuid>.req`` beside ``<uuid>.tap`` (readable to everyone, at most 64 bytes) and
removes it when it is done; the tap looks once a tick and answers each nonce once, by renaming a
complete file to ``<uuid>.map``.  That is at most 4 MiB: a header, GPUs, segments, then the blocks
of each segment in turn, by address; or a header alone with the reason why there is no map.  What
did not fit is left out from the end, and TRUNCATED says so.  Little endian; versions as in layout.

Runs in the inference process too: standard library only, CPython 3.9 and newer.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from gpuward.tap.layout import LayoutError

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST_SUFFIX = ".req"
MAP_SUFFIX = ".map"
REQUEST_MAGIC = b"GREQ\x00\x01\r\n"
MAP_MAGIC = b"GMAP\x00\x01\r\n"
MAJOR = 1
MINOR = 0

REQUEST_SIZE = 48
MAX_REQUEST_SIZE = 64
MAX_MAP_SIZE = 4 << 20
NONCE_SIZE = 16

# Kinds of request.
MEMORY_MAP = 1

# Outcomes: 0 is a map, the others say why there is none.
ANSWERED = 0
# Asking could deadlock, or this allocator cannot be asked.
DEGRADED = 1
# The last walk is too recent, until after the deadline; the header says when to ask again.
BUSY = 2
# More blocks than may be walked while Python stands still.
TOO_LARGE = 3
# torch records who allocates (``_record_memory_history``), which makes a walk unboundedly slow.
RECORDING = 4
# torch raised.
FAILED = 5
UNKNOWN_KIND = 6

# Map flags.
TRUNCATED = 1

# Segment flags.
SMALL_POOL = 1
EXPANDABLE = 2

# States of a block; 0 is one that this version does not know.
ACTIVE = 1
# Freed by the program, but a stream may still use it.
PENDING_FREE = 2
FREE = 3

_REQUEST = struct.Struct("<8sHHI16sQ")
_HEADER = struct.Struct("<8s8H6I16s3Q")
_HEADER_SIZE = 96
_CRC_AT = 88
_GPU = struct.Struct("<16sII")
_SEGMENT = struct.Struct("<QQQQQIIII")
_BLOCK = struct.Struct("<QQQII")
_CRC = struct.Struct("<II")


class Request(NamedTuple):
    """A question; ``deadline_real_ns`` is CLOCK_REALTIME, the only clock all namespaces share."""

    nonce: bytes
    deadline_real_ns: int
    kind: int = MEMORY_MAP


class MapGpu(NamedTuple):
    """A GPU of the process; segments name it by its place in the list."""

    gpu_uuid: bytes
    ordinal: int


class MapBlock(NamedTuple):
    """A block; ``offset`` counts from its segment's address, ``requested`` is 0 of a free one."""

    offset: int
    size: int
    requested: int
    state: int


class MapSegment(NamedTuple):
    """One range that the allocator took of the driver; pool (0, 0) is the default one."""

    address: int
    size: int
    stream: int
    pool: tuple[int, int]
    gpu: int
    flags: int
    blocks: Sequence[MapBlock]
    # Pages in which an expandable segment is given back, counted from its address; 0: not known.
    page_mib: int = 0


class MemoryMap(NamedTuple):
    """An answer.  ``total_*`` count what there was, also where less fits into the file."""

    nonce: bytes
    taken_mono_ns: int
    taken_real_ns: int
    outcome: int = ANSWERED
    # How long the walk kept Python from running.
    cost_ns: int = 0
    # With BUSY: when it makes sense to ask again.
    retry_after_ms: int = 0
    flags: int = 0
    total_segments: int = 0
    total_blocks: int = 0
    gpus: Sequence[MapGpu] = ()
    segments: Sequence[MapSegment] = ()


def pack_request(request: Request) -> bytes:
    """Return ``REQUEST_SIZE`` bytes."""
    fields = (request.kind, 0, request.nonce, request.deadline_real_ns)
    body = _REQUEST.pack(REQUEST_MAGIC, MAJOR, *fields)
    return body + _CRC.pack(zlib.crc32(body), 0)


def unpack_request(raw: bytes) -> Request:
    """Read a whole request file; raises ``LayoutError`` naming what is wrong."""
    if not REQUEST_SIZE <= len(raw) <= MAX_REQUEST_SIZE:
        raise LayoutError(f"{len(raw)} bytes are no request")
    magic, major, kind, _, nonce, deadline_real_ns = _REQUEST.unpack_from(raw)
    if magic != REQUEST_MAGIC or major != MAJOR:
        raise LayoutError("no request of this major version")
    if _CRC.unpack_from(raw, _REQUEST.size)[0] != zlib.crc32(raw[: _REQUEST.size]):
        raise LayoutError("request checksum does not fit")
    return Request(nonce, deadline_real_ns, kind)


def pack_map(memory_map: MemoryMap) -> bytes:
    """Return the file, cut to ``MAX_MAP_SIZE``; TRUNCATED is set where that left something out.

    Raises ``struct.error`` for a figure below 0 or too large.
    """
    gpus = b"".join(_GPU.pack(*gpu, 0) for gpu in memory_map.gpus)
    segments, blocks = _pack_segments(memory_map.segments, MAX_MAP_SIZE - _HEADER_SIZE - len(gpus))
    segment_count, block_count = len(segments) // _SEGMENT.size, len(blocks) // _BLOCK.size
    is_cut = block_count < memory_map.total_blocks or segment_count < memory_map.total_segments
    sizes = (_HEADER_SIZE, _GPU.size, _SEGMENT.size, _BLOCK.size)
    header = _HEADER.pack(
        *(MAP_MAGIC, MAJOR, MINOR, *sizes),
        *(memory_map.outcome, memory_map.flags | (TRUNCATED if is_cut else 0)),
        *(len(memory_map.gpus), segment_count, block_count),
        *(memory_map.total_segments, memory_map.total_blocks, memory_map.retry_after_ms),
        *(memory_map.nonce, memory_map.taken_mono_ns, memory_map.taken_real_ns),
        memory_map.cost_ns,
    )
    body = b"".join((gpus, segments, blocks))
    return b"".join((header, _CRC.pack(zlib.crc32(body, zlib.crc32(header)), 0), body))


def unpack_map(raw: bytes) -> MemoryMap:
    """Read a whole answer; raises ``LayoutError`` naming what is wrong.

    Checked: sizes, counts, checksum; not whether blocks lie inside their segments.
    """
    if not _HEADER_SIZE <= len(raw) <= MAX_MAP_SIZE:
        raise LayoutError(f"{len(raw)} bytes are no map")
    fields = _HEADER.unpack_from(raw)
    header_size, gpu_size, segment_size, block_size, outcome, flags = fields[3:9]
    gpu_count, segment_count, block_count, *totals, retry_after_ms = fields[9:15]
    nonce, *taken_ns, cost_ns = fields[15:19]
    if fields[0] != MAP_MAGIC or fields[1] != MAJOR:
        raise LayoutError("no map of this major version")
    is_small = header_size < _HEADER_SIZE or gpu_size < _GPU.size
    if is_small or segment_size < _SEGMENT.size or block_size < _BLOCK.size:
        raise LayoutError("sizes smaller than version 1 has")
    segments_at = header_size + gpu_count * gpu_size
    blocks_at = segments_at + segment_count * segment_size
    if blocks_at + block_count * block_size != len(raw):
        raise LayoutError("sizes do not add up")
    body_crc = zlib.crc32(raw[_HEADER_SIZE:], zlib.crc32(raw[:_CRC_AT]))
    if _CRC.unpack_from(raw, _CRC_AT)[0] != body_crc:
        raise LayoutError("map checksum does not fit")
    gpus = [
        MapGpu(*_GPU.unpack_from(raw, at)[:2]) for at in range(header_size, segments_at, gpu_size)
    ]
    blocks = [
        MapBlock(*_BLOCK.unpack_from(raw, at)[:4]) for at in range(blocks_at, len(raw), block_size)
    ]
    found = [_SEGMENT.unpack_from(raw, at) for at in range(segments_at, blocks_at, segment_size)]
    there = (*totals, gpus, _with_blocks(found, blocks, gpu_count))
    return MemoryMap._make((nonce, *taken_ns, outcome, cost_ns, retry_after_ms, flags, *there))


def _pack_segments(segments: Sequence[MapSegment], room: int) -> tuple[bytearray, bytearray]:
    """Return segments and blocks that fit into ``room`` bytes, the last segment perhaps cut."""
    packed, blocks = bytearray(), bytearray()
    for segment in segments:
        left = room - len(packed) - len(blocks) - _SEGMENT.size
        if left < 0:
            break
        fitting = segment.blocks[: left // _BLOCK.size]
        facts = (segment.address, segment.size, segment.stream, *segment.pool)
        tail = (segment.gpu, segment.flags, len(fitting), segment.page_mib)
        packed += _SEGMENT.pack(*facts, *tail)
        for block in fitting:
            blocks += _BLOCK.pack(*block, 0)
    return packed, blocks


def _with_blocks(
    found: list[tuple[int, ...]], blocks: list[MapBlock], gpu_count: int
) -> list[MapSegment]:
    segments, used = [], 0
    for address, size, stream, pool_a, pool_b, gpu, flags, count, page_mib in found:
        if gpu >= gpu_count:
            raise LayoutError("a segment of no GPU")
        own = blocks[used : used + count]
        pool = (pool_a, pool_b)
        segments.append(MapSegment(address, size, stream, pool, gpu, flags, own, page_mib))
        used += count
    if used != len(blocks):
        raise LayoutError("blocks do not add up")
    return segments
