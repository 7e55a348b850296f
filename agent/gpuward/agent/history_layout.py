"""How history lies in memory and in its file: rows of float32, one for each step of time.  Pure.

    header | directory | directory | a row a second | a row each 10 s | a row a minute

A row holds one figure of every series (the last tier two, least and most), NaN where nothing was
known.  It says itself which step of time it is of, and has a checksum: what a crash tore is not a
row.  The directory says which series a column is of; the two copies are written in turn, so that
one is always whole.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Raised whenever anything below changes; a file of another version is begun anew.
VERSION = 1
MAGIC = b"GPUWHIST"
COLUMNS = 250
# Of a second; beyond is no time of this world, 36,000 years from now.
MAX_STEP = 2**40
_HEADER = struct.Struct("<8sI")
HEADER_SIZE = 4_096

_DIRECTORY_HEAD = struct.Struct("<III")
DIRECTORY_SIZE = 256 << 10
DIRECTORY_OFFSETS = (HEADER_SIZE, HEADER_SIZE + DIRECTORY_SIZE)

# Checksum, generation of the directory, boot, nothing, step, wall time of the step's start.
_ROW_HEAD = struct.Struct("<IIIIqd")
FIGURE_SIZE = 4


@dataclass(frozen=True, slots=True)
class Tier:
    """Rows of one length of step; step ``n`` lies at place ``n % rows``."""

    step_s: int
    rows: int
    figures: int
    offset: int

    @property
    def row_size(self) -> int:
        return _ROW_HEAD.size + FIGURE_SIZE * self.figures

    @property
    def end(self) -> int:
        return self.offset + self.rows * self.row_size

    def offset_of(self, step: int) -> int:
        """Return where the row of ``step`` lies."""
        return self.offset + step % self.rows * self.row_size


SECONDS = Tier(1, 3_600, COLUMNS, DIRECTORY_OFFSETS[1] + DIRECTORY_SIZE)
DECADES = Tier(10, 8_640, COLUMNS, SECONDS.end)
MINUTES = Tier(60, 1_440, 2 * COLUMNS, DECADES.end)
TIERS = (SECONDS, DECADES, MINUTES)
# 15.3 MiB.
SIZE = MINUTES.end


class Row(NamedTuple):
    """Of which step the figures are, of which boot, and since which directory."""

    step: int
    boot: int
    generation: int
    wall_s: float


def header() -> bytes:
    """Return how a file begins."""
    return _HEADER.pack(MAGIC, VERSION)


def header_fault(raw: bytes) -> str:
    """Return why a file that begins so cannot be used; empty when it can."""
    if len(raw) < _HEADER.size:
        return "it is too short"
    magic, version = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        return "it is no history"
    return "" if version == VERSION else f"it is of version {version}, not {VERSION}"


def pack_directory(generation: int, body: bytes) -> bytes:
    """Return ``body`` as a directory."""
    if len(body) > DIRECTORY_SIZE - _DIRECTORY_HEAD.size:
        raise ValueError(f"a directory of {len(body)} bytes")
    rest = _DIRECTORY_HEAD.pack(0, generation, len(body))[4:] + body
    return zlib.crc32(rest).to_bytes(4, "little") + rest


def unpack_directory(raw: bytes) -> tuple[int, bytes] | None:
    """Return generation and body; ``None`` when it is none."""
    if len(raw) < _DIRECTORY_HEAD.size:
        return None
    checksum, generation, length = _DIRECTORY_HEAD.unpack_from(raw)
    end = _DIRECTORY_HEAD.size + length
    if end > len(raw) or zlib.crc32(memoryview(raw)[4:end]) != checksum:
        return None
    return generation, bytes(raw[_DIRECTORY_HEAD.size : end])


def pack_row(row: Row, figures: bytes) -> bytes:
    """Return ``row`` with its ``figures``, float32 in the machine's order."""
    head = _ROW_HEAD.pack(0, row.generation, row.boot, 0, row.step, row.wall_s)
    rest = head[4:] + figures
    return zlib.crc32(rest).to_bytes(4, "little") + rest


def unpack_row(raw: memoryview | bytes) -> Row | None:
    """Return what a whole row is of; ``None`` for none, torn and impossible ones too."""
    checksum, generation, boot, _, step, wall_s = _ROW_HEAD.unpack_from(raw)
    if zlib.crc32(memoryview(raw)[4:]) != checksum:
        return None
    if not 0 < step <= MAX_STEP or not 0.0 <= wall_s <= MAX_STEP:
        return None
    return Row(step, boot, generation, wall_s)


def figures_of(raw: bytes) -> bytes:
    """Return the figures of a packed row."""
    return raw[_ROW_HEAD.size :]


def column_of(raw: bytes, tier: Tier, figure: int) -> Iterator[tuple[Row, float]]:
    """Yield heads and one figure of rows that lie one after the other.

    Checksums are not looked at, because the rows are of our own memory: a day takes milliseconds.
    """
    view = memoryview(raw)
    size = tier.row_size
    words, longs, doubles = view.cast("I"), view.cast("q"), view.cast("d")
    heads = map(
        Row,
        longs[2 :: size // 8].tolist(),
        words[2 :: size // 4].tolist(),
        words[1 :: size // 4].tolist(),
        doubles[3 :: size // 8].tolist(),
    )
    first = _ROW_HEAD.size // FIGURE_SIZE + figure
    # A cast to "f" holds floats, which its type does not say.
    return zip(heads, array("f", view.cast("f")[first :: size // 4].tolist()), strict=True)
