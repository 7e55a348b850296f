"""Read a record of a tap file: checked at once, unpacked as far as somebody asks.

Every record of a node is checked once a second, but few of its 125 figures are then looked at, and
unpacking all of them takes four times as long as checking.  Offsets are those of version 1, see
``gpuward.tap.layout``.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

from gpuward.tap.layout import RECORD_SIZE, Counters, OutOfMemory, Record, Summary, Totals

if TYPE_CHECKING:
    from collections.abc import Callable

# What every reader asks for, and what the check needs: checksum, unused word, sequence number.
_FRAME = struct.Struct("<QQQ16sII800xII48xIIQ")
_BODY = slice(8, 904)
# Each family lies as all pools, small pool, large pool.
_POOL = struct.Struct("<" + 9 * "Q16x")
_PARTS: dict[str, tuple[struct.Struct, int, Callable[[tuple[int, ...]], tuple[int, ...]]]] = {
    "all_pools": (_POOL, 48, Counters._make),
    "small_pool": (_POOL, 56, Counters._make),
    "large_pool": (_POOL, 64, Counters._make),
    "peak": (struct.Struct("<9Q"), 264, Counters._make),
    "totals": (struct.Struct("<12Q"), 336, Totals._make),
    "summary": (struct.Struct("<10Q"), 432, Summary._make),
    "free_bytes": (struct.Struct("<28Q"), 512, tuple),
    "free_counts": (struct.Struct("<28I"), 736, tuple),
    "oom": (struct.Struct("<5Q"), 864, OutOfMemory._make),
}


class PackedRecord:
    """A checked record: the attributes of ``Record``, each part unpacked when first asked for."""

    __slots__ = ("_raw", *Record._fields)

    seq: int
    mono_ns: int
    real_ns: int
    gpu_uuid: bytes
    ordinal: int
    flags: int
    all_pools: Counters
    small_pool: Counters
    large_pool: Counters
    peak: Counters
    totals: Totals
    summary: Summary
    free_bytes: tuple[int, ...]
    free_counts: tuple[int, ...]
    tick_cost_ns: int
    missed_ticks: int
    oom: OutOfMemory

    def __init__(self, raw: bytes, frame: tuple[Any, ...]) -> None:
        self._raw = raw
        self.seq, self.mono_ns, self.real_ns, self.gpu_uuid = frame[:4]
        self.ordinal, self.flags, self.tick_cost_ns, self.missed_ticks = frame[4:8]

    def __getattr__(self, name: str) -> Any:
        # Reached only while the slot of that name is empty.
        if name not in _PARTS:
            raise AttributeError(name)
        part, at, make = _PARTS[name]
        value = make(part.unpack_from(self._raw, at))
        setattr(self, name, value)
        return value


def unpack_record(raw: bytes, offset: int = 0) -> PackedRecord | None:
    """Read the record at ``offset``; None when it is torn, empty, cut short or was never whole."""
    raw = raw[offset : offset + RECORD_SIZE]
    if len(raw) < RECORD_SIZE:
        return None
    frame = _FRAME.unpack(raw)
    seq, crc, seq_copy = frame[0], frame[8], frame[10]
    if seq == 0 or seq & 1 or seq != seq_copy or zlib.crc32(raw[_BODY]) != crc:
        return None
    return PackedRecord(raw, frame)
