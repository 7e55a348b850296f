"""Byte layout of a tap file, version 1: the one contract between the tap and the agent.

A file is a header, then one area per device: two record slots and a ring of short history.  Little
endian, 8-byte aligned, fixed fields; strings are ASCII padded with NUL.  A reader accepts the same
major version with any larger sizes (it steps by the sizes the header names) and ignores flags it
does not know.  A record is valid when its sequence number is even, not 0, equal to its copy, and
the CRC fits: pwrite is not atomic against pread, so the other slot always holds the record before.

Runs in the inference process too: standard library only, CPython 3.9 and newer.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

MAGIC = b"GTAP\x00\x01\r\n"
MAJOR = 1
MINOR = 0

HEADER_SIZE = 4096
SLOT_SIZE = 1024
SLOTS = 2
RECORD_SIZE = 920
RING_ENTRIES = 128
RING_ENTRY_SIZE = 64
SIZE_CLASSES = 28
# Nine families, each of all pools, the small and the large one; nine peaks; twelve totals.
FIGURES = 48

# Header flags.
ACCEPTS_REQUESTS = 1

# Record flags.
EXPANDABLE = 1
SUMMARY_VALID = 2
# Nothing can be read safely in this process (or not at all): the driver's view is all there is.
DEGRADED = 4
VIRTUAL_RESERVED = 8
OOM_SEEN = 16
CAPTURE_POOLS = 32
# With DEGRADED: only for now, as the thread that may be asked runs no Python.
IDLE = 64

_HEADER = struct.Struct("<8sHHIIHHHHHH32xIIQQQ16sII8x16s24s16s32s256sII")
_HEADER_CRC_AT = 1020
_FIGURES = struct.Struct("<QQQ16sII36Q12Q")
_WALK = struct.Struct("<10Q28Q28I")
_OWN = struct.Struct("<IIQ5Q")
_WALK_AT = _FIGURES.size
_OWN_AT = _WALK_AT + _WALK.size
_RECORD_END_AT = _OWN_AT + _OWN.size
_RECORD_END = struct.Struct("<IIQ")
_RING = struct.Struct("<Q4QIIQI")
_CRC = struct.Struct("<I")
_U32 = (1 << 32) - 1


class LayoutError(ValueError):
    """The bytes are not a tap file header of this major version."""


class Header(NamedTuple):
    """Who writes the file and how it is cut; pid and uid as the writer's own namespaces say."""

    device_count: int
    ns_pid: int = 0
    uid: int = 0
    pidns_inode: int = 0
    start_ticks: int = 0
    created_realtime_ns: int = 0
    boot_id: bytes = bytes(16)
    period_ms: int = 1000
    # 0: the tap takes no snapshot on its own.
    snapshot_min_period_ms: int = 0
    tap_version: str = ""
    torch_version: str = ""
    allocator_backend: str = ""
    framework: str = ""
    alloc_conf: str = ""
    rank: int = 0
    # 0: the rank is not known.
    world: int = 0
    flags: int = 0
    major: int = MAJOR
    minor: int = MINOR
    header_size: int = HEADER_SIZE
    slot_size: int = SLOT_SIZE
    ring_entries: int = RING_ENTRIES
    ring_entry_size: int = RING_ENTRY_SIZE

    @property
    def device_size(self) -> int:
        return SLOTS * self.slot_size + self.ring_entries * self.ring_entry_size

    @property
    def file_size(self) -> int:
        return self.header_size + self.device_count * self.device_size

    def device_offset(self, device_index: int) -> int:
        return self.header_size + device_index * self.device_size

    def slot_offset(self, device_index: int, seq: int) -> int:
        return self.device_offset(device_index) + (seq >> 1) % SLOTS * self.slot_size

    def ring_offset(self, device_index: int, seq: int) -> int:
        entry = (seq >> 1) % self.ring_entries
        ring = self.device_offset(device_index) + SLOTS * self.slot_size
        return ring + entry * self.ring_entry_size


class Counters(NamedTuple):
    """The nine families of torch's allocator statistics, for one pool or as peaks."""

    allocation: int = 0
    segment: int = 0
    active: int = 0
    inactive_split: int = 0
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    active_bytes: int = 0
    inactive_split_bytes: int = 0
    requested_bytes: int = 0


class Totals(NamedTuple):
    """Cumulative counters; torch can reset some, so a falling one is a reset."""

    large_allocations: int = 0
    large_allocated_bytes: int = 0
    allocations: int = 0
    alloc_retries: int = 0
    ooms: int = 0
    sync_all_streams: int = 0
    device_allocs: int = 0
    device_frees: int = 0
    oversize_segments: int = 0
    oom_rejections: int = 0
    private_pool_reserved_bytes: int = 0
    last_oom_request_bytes: int = 0


class Summary(NamedTuple):
    """What one walk over all blocks said; of value only with the flag SUMMARY_VALID."""

    mono_ns: int = 0
    cost_ns: int = 0
    blocks: int = 0
    segments: int = 0
    free_bytes: int = 0
    largest_free_bytes: int = 0
    releasable_bytes: int = 0
    stranded_bytes: int = 0
    private_free_bytes: int = 0
    pending_free_bytes: int = 0


NO_SUMMARY = Summary()
NO_CLASSES = (0,) * SIZE_CLASSES


class OutOfMemory(NamedTuple):
    """The last out-of-memory error; ``mono_ns`` 0 when there was none."""

    mono_ns: int = 0
    request_bytes: int = 0
    device_free_bytes: int = 0
    reserved_bytes: int = 0
    active_bytes: int = 0


class Record(NamedTuple):
    """What is known of one device at ``mono_ns`` (CLOCK_MONOTONIC)."""

    seq: int
    mono_ns: int
    real_ns: int
    gpu_uuid: bytes
    ordinal: int
    flags: int = 0
    all_pools: Counters = Counters()
    small_pool: Counters = Counters()
    large_pool: Counters = Counters()
    peak: Counters = Counters()
    totals: Totals = Totals()
    summary: Summary = NO_SUMMARY
    # Free blocks by size class: 0 is below 1 KiB, then one per power of two, 27 from 64 GiB.
    free_bytes: tuple[int, ...] = NO_CLASSES
    free_counts: tuple[int, ...] = NO_CLASSES
    tick_cost_ns: int = 0
    missed_ticks: int = 0
    oom: OutOfMemory = OutOfMemory()


class RingEntry(NamedTuple):
    """One tick of the flight recorder."""

    mono_ns: int
    reserved_bytes: int = 0
    allocated_bytes: int = 0
    active_bytes: int = 0
    inactive_split_bytes: int = 0
    alloc_retries: int = 0
    ooms: int = 0
    allocations: int = 0
    flags: int = 0


def pack_header(header: Header) -> bytes:
    """Return ``header_size`` bytes; strings are cut to their field, others than ASCII are ``?``."""
    raw = bytearray(header.header_size)
    sizes = (header.header_size, header.file_size, header.device_count, header.slot_size)
    ring = (header.ring_entries, header.ring_entry_size)
    front = (MAGIC, header.major, header.minor, *sizes, SLOTS, *ring, header.flags)
    strings = [text.encode("ascii", "replace") for text in header[9:14]]
    _HEADER.pack_into(raw, 0, *front, *header[1:9], *strings, header.rank, header.world)
    _CRC.pack_into(raw, _HEADER_CRC_AT, zlib.crc32(raw[:_HEADER_CRC_AT]))
    return bytes(raw)


def unpack_header(raw: bytes) -> Header:
    """Read a header from at least the first 1024 bytes of a file.

    Raises ``LayoutError`` naming what is wrong.  Sizes are checked against this version's, which
    are the smallest allowed; whether the file is long enough for them is the caller's to check.
    """
    if len(raw) < _HEADER_CRC_AT + _CRC.size:
        raise LayoutError(f"{len(raw)} bytes are no header")
    fields = _HEADER.unpack_from(raw)
    if fields[0] != MAGIC:
        raise LayoutError("wrong magic")
    if fields[1] != MAJOR:
        raise LayoutError(f"major version {fields[1]}, expected {MAJOR}")
    if _CRC.unpack_from(raw, _HEADER_CRC_AT)[0] != zlib.crc32(raw[:_HEADER_CRC_AT]):
        raise LayoutError("header checksum does not fit")
    major, minor, header_size, file_size, devices = fields[1:6]
    slot_size, slots, ring_entries, ring_entry_size, flags = fields[6:11]
    strings = tuple(_text(field) for field in fields[19:24])
    sizes = (major, minor, header_size, slot_size, ring_entries, ring_entry_size)
    header = Header._make((devices, *fields[11:19], *strings, *fields[24:26], flags, *sizes))
    if header_size < HEADER_SIZE or slot_size < SLOT_SIZE or ring_entry_size < RING_ENTRY_SIZE:
        raise LayoutError("sizes smaller than version 1 has")
    if slots != SLOTS or ring_entries == 0 or file_size != header.file_size:
        raise LayoutError("sizes do not add up")
    return header


def pack_record(buffer: bytearray, record: Record) -> None:
    """Fill the first ``RECORD_SIZE`` bytes of ``buffer``; raises ``struct.error`` out of range."""
    pools = [0] * 27
    pools[0::3], pools[1::3], pools[2::3] = record.all_pools, record.small_pool, record.large_pool
    walk = pack_walk(record.summary, record.free_bytes, record.free_counts)
    own = (record.tick_cost_ns, record.missed_ticks, 0, *record.oom)
    pack_parts(buffer, record[:6], [*pools, *record.peak, *record.totals], walk, own)


def pack_parts(
    buffer: bytearray, stamp: tuple[Any, ...], figures: list[int], walk: bytes, own: tuple[int, ...]
) -> None:
    """Do the same with parts in the order of the file, in a third of the time.

    ``stamp``: the six fields in front; ``figures``: see ``FIGURES``; ``walk``: see ``pack_walk``;
    ``own``: cost, missed ticks, 0, the last out-of-memory error.
    """
    _FIGURES.pack_into(buffer, 0, *stamp, *figures)
    buffer[_WALK_AT:_OWN_AT] = walk
    _OWN.pack_into(buffer, _OWN_AT, *own)
    crc = zlib.crc32(buffer[8:_RECORD_END_AT])
    _RECORD_END.pack_into(buffer, _RECORD_END_AT, crc, 0, stamp[0])


def pack_walk(summary: Summary, free_bytes: tuple[int, ...], free_counts: tuple[int, ...]) -> bytes:
    """Return the part of a record that only a walk over all blocks changes."""
    return _WALK.pack(*summary, *free_bytes, *free_counts)


def pack_ring_entry(entry: RingEntry) -> bytes:
    """Return 64 bytes; the two 32-bit counters wrap."""
    mono_ns, reserved, allocated, active, split, alloc_retries, ooms, allocations, flags = entry
    sizes, counts = (reserved, allocated, active, split), (alloc_retries & _U32, ooms & _U32)
    body = _RING.pack(mono_ns, *sizes, *counts, allocations, flags)
    return body + _CRC.pack(zlib.crc32(body))


def unpack_ring_entry(raw: bytes, offset: int = 0) -> RingEntry | None:
    """Read the entry at ``offset``; None when it is empty, torn or cut short."""
    if len(raw) < offset + RING_ENTRY_SIZE:
        return None
    body = raw[offset : offset + _RING.size]
    entry = RingEntry(*_RING.unpack(body))
    if entry.mono_ns == 0 or _CRC.unpack_from(raw, offset + _RING.size)[0] != zlib.crc32(body):
        return None
    return entry


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace")
