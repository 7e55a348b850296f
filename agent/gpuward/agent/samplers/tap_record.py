"""Read a record of a tap file: checked at once, unpacked as far as somebody asks.

Every record of a node is checked once a second, but few of its 125 figures are then looked at, and
unpacking all of them takes four times as long as checking.  Offsets are those of version 1, see
``gpuward.tap.layout``.
"""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from gpuward.tap.layout import RECORD_SIZE, Counters, OutOfMemory, Record, Summary, Totals

if TYPE_CHECKING:
    from collections.abc import Callable

# What every reader asks for, and what the check needs: checksum, unused word, sequence number.
_FRAME = struct.Struct("<QQQ16sII800xII48xIIQ")
_BODY_AT, _BODY_END = 8, 904
# Each family lies as all pools, small pool, large pool.
_POOL = struct.Struct("<" + 9 * "Q16x")
# What makes a value of a part: as ``_make``, without counting again what the format has counted.
_counters, _totals, _summary, _out_of_memory = (
    partial(tuple.__new__, kind) for kind in (Counters, Totals, Summary, OutOfMemory)
)
_PARTS: dict[str, tuple[struct.Struct, int, Callable[[tuple[int, ...]], tuple[int, ...]]]] = {
    "all_pools": (_POOL, 48, _counters),
    "small_pool": (_POOL, 56, _counters),
    "large_pool": (_POOL, 64, _counters),
    "peak": (struct.Struct("<9Q"), 264, _counters),
    "totals": (struct.Struct("<12Q"), 336, _totals),
    "summary": (struct.Struct("<10Q"), 432, _summary),
    "free_bytes": (struct.Struct("<28Q"), 512, tuple),
    "free_counts": (struct.Struct("<28I"), 736, tuple),
    "oom": (struct.Struct("<5Q"), 864, _out_of_memory),
}


class PackedRecord:
    """A checked record: the attributes of ``Record``, each part unpacked when first asked for."""

    __slots__ = ("_offset", "_raw", *Record._fields)

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

    def __init__(self, raw: bytes, offset: int, frame: tuple[Any, ...]) -> None:
        self._raw, self._offset = raw, offset
        self.seq, self.mono_ns, self.real_ns, self.gpu_uuid = frame[:4]
        self.ordinal, self.flags, self.tick_cost_ns, self.missed_ticks = frame[4:8]

    def __getattr__(self, name: str) -> Any:
        # Reached only while the slot of that name is empty.
        try:
            part, at, make = _PARTS[name]
        except KeyError:
            raise AttributeError(name) from None
        value = make(part.unpack_from(self._raw, self._offset + at))
        setattr(self, name, value)
        return value


def unpack_record(raw: bytes, offset: int = 0) -> PackedRecord | None:
    """Read the record at ``offset``; None when it is torn, empty, cut short or was never whole."""
    if len(raw) < offset + RECORD_SIZE:
        return None
    frame = _FRAME.unpack_from(raw, offset)
    seq, crc, seq_copy = frame[0], frame[8], frame[10]
    if seq == 0 or seq & 1 or seq != seq_copy:
        return None
    if zlib.crc32(raw[offset + _BODY_AT : offset + _BODY_END]) != crc:
        return None
    return PackedRecord(raw, offset, frame)
