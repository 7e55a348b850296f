"""Draw a memory map for a terminal: what it adds up to, then the address space in lines of cells.

With colours a cell is a bar: as high as the share that is allocated, on a ground in the colour of
most of the rest.  Without, a letter per state, so that the picture survives a pipe, a log and a
screen reader.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from gpuward.memory_map.cells import lay_out
from gpuward.memory_map.model import State, largest_groups, totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.memory_map.cells import Cell, Line
    from gpuward.memory_map.model import Group, MemoryMap, Totals

LINES = 24
NARROWEST = 40
WIDEST = 160
_ADDRESS_WIDTH = len("7f0000000000 ")
_BARS = " ▁▂▃▄▅▆▇█"
_RESET = "\x1b[0m"
# The 256 colours of xterm: told apart by people who see no red or no green, on black and on white.
_COLOURS = {
    State.ALLOCATED: 32,
    State.PENDING_FREE: 220,
    State.RELEASABLE: 115,
    State.STRANDED: 167,
    State.KEPT: 246,
}
_LETTERS = {
    State.ALLOCATED: "#",
    State.PENDING_FREE: "~",
    State.RELEASABLE: ".",
    State.STRANDED: "x",
    State.KEPT: "o",
}
_WORDS = {
    State.ALLOCATED: "allocated",
    State.PENDING_FREE: "pending: freed, a stream still uses it",
    State.RELEASABLE: "releasable: empty_cache() gives it back",
    State.STRANDED: "stranded: free, pinned by what lives beside it",
    State.KEPT: "kept: free in a private pool, which serves nobody else",
}
# A cell of letters shows what is allocated from this share on.
_MOSTLY = 0.5
_PARTLY_LETTER = "+"
_ALL = 0.97
_HEADINGS = (
    "pool",
    "stream",
    "segments",
    "blocks",
    "reserved",
    "allocated",
    "pending",
    "releasable",
    "stranded",
    "kept",
    "largest hole",
)


# Columns that are left out where they say nothing.
_OFTEN_NOTHING = ("pending", "kept")


def render(memory_map: MemoryMap, *, width: int, colours: bool) -> str:
    """Return the picture in lines of at most ``width`` columns, where that is 110 or more."""
    return "\n".join(_render(memory_map, max(NARROWEST, min(width, WIDEST)), colours=colours))


def size_text(size: int) -> str:
    """Return ``size`` bytes in three digits: "0", "512 B", "2.00 MiB", "61.2 GiB"."""
    if size == 0:
        return "0"
    if size < 2**10:
        return f"{size} B"
    power = min(4, (size.bit_length() - 1) // 10)
    number = size / 2 ** (10 * power)
    digits = max(0, 3 - len(str(int(number))))
    return f"{number:.{digits}f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def stream_text(stream: int) -> str:
    """Return the name of a stream by its handle."""
    return "default" if stream == 0 else f"{stream:x}"


def plain(text: str) -> str:
    """Return ``text`` without what could command a terminal; names come from processes."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def taken_text(taken_at_s: float) -> str:
    """Return the wall time at which a map was taken."""
    return f"{datetime.fromtimestamp(taken_at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def left_out_text(memory_map: MemoryMap) -> Iterator[str]:
    """Yield what no picture has room for, if anything."""
    _, rest = largest_groups(memory_map.segments)
    if rest:
        held = sum(totals(group.segments).reserved for group in rest)
        yield f"Not drawn: {len(rest):,} more pools and streams with {size_text(held)} reserved."


def _render(memory_map: MemoryMap, width: int, *, colours: bool) -> Iterator[str]:
    yield f"Memory of {plain(memory_map.process)} (pid {memory_map.pid})"
    yield f"on {plain(memory_map.gpu)}, {taken_text(memory_map.taken_at_s)}"
    if memory_map.is_truncated:
        yield "There is more: the highest addresses did not fit into the answer."
    yield ""
    if not memory_map.segments:
        yield "The allocator holds no memory on this GPU."
        return
    yield from _table(memory_map, width)
    for picture in lay_out(memory_map.segments, columns=width - _ADDRESS_WIDTH, rows=LINES):
        yield ""
        yield (
            f"{picture.group.pool} pool, stream {stream_text(picture.group.stream)},"
            f" a cell is {size_text(picture.cell_bytes)}"
        )
        for line in picture.lines:
            yield f"{line.address:012x} {_line(line, colours=colours)}"
    yield ""
    yield from left_out_text(memory_map)
    yield from _legend(colours=colours)


def _table(memory_map: MemoryMap, width: int) -> Iterator[str]:
    """Yield a row for each group; on a narrow terminal a column, as that is often less wide."""
    found, rest = largest_groups(memory_map.segments)
    rows = [_row(group, totals(group.segments)) for group in found]
    if len(rows) > 1 or rest:
        rows.append(("all", "", *_figures(totals(memory_map.segments))))
    columns = [
        column
        for column in zip(_HEADINGS, *rows, strict=True)
        if column[0] not in _OFTEN_NOTHING or set(column[1:]) != {"0"}
    ]
    lines = list(_grid(list(zip(*columns, strict=True)), words=2))
    yield from lines if len(lines[0]) <= width else _grid(columns, words=1)


def _grid(rows: Sequence[tuple[str, ...]], *, words: int) -> Iterator[str]:
    """Yield lines of equal length: ``words`` columns to the left, then figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(
            cell.ljust(wide) if place < words else cell.rjust(wide)
            for place, (cell, wide) in enumerate(zip(row, widths, strict=True))
        )


def _row(group: Group, sums: Totals) -> tuple[str, ...]:
    return (group.pool, stream_text(group.stream), *_figures(sums))


def _figures(sums: Totals) -> tuple[str, ...]:
    sizes = (
        sums.reserved,
        sums.allocated,
        sums.pending,
        sums.releasable,
        sums.stranded,
        sums.kept,
        sums.largest_hole,
    )
    return (f"{sums.segments:,}", f"{sums.blocks:,}", *map(size_text, sizes))


def _line(line: Line, *, colours: bool) -> str:
    if not colours:
        return "".join(" " if cell is None else _letter(cell) for cell in line.cells)
    painted = ((" ", "") if cell is None else _bar(cell) for cell in line.cells)
    runs = groupby(painted, key=lambda paint: paint[1])
    return "".join(_painted("".join(text for text, _ in run), code) for code, run in runs)


def _letter(cell: Cell) -> str:
    if cell.live_ratio >= _ALL:
        return _LETTERS[State.ALLOCATED]
    return _PARTLY_LETTER if cell.live_ratio >= _MOSTLY else _LETTERS[cell.rest]


def _bar(cell: Cell) -> tuple[str, str]:
    # What is there at all is seen.
    eighths = min(8, -int(-8 * cell.live_ratio // 1))
    ground = f";48;5;{_COLOURS[cell.rest]}"
    return _BARS[eighths], f"38;5;{_COLOURS[State.ALLOCATED]}{ground}"


def _painted(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}{_RESET}" if code else text


def _legend(*, colours: bool) -> Iterator[str]:
    if not colours:
        yield "A segment begins after a gap."
        for state, words in _WORDS.items():
            yield f"{_LETTERS[state]} {words}"
        yield f"{_PARTLY_LETTER} more than half allocated"
        return
    yield "A bar is as high as its cell is allocated; a segment begins after a gap."
    for state, words in _WORDS.items():
        yield f"{_painted('  ', f'48;5;{_COLOURS[state]}')} {words}"
