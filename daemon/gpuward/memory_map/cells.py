"""Lay a memory map out in cells of equal size, as many as there is room for.

Each cell stands for a range of addresses and knows how much of it is in which state.  A segment of
at least one cell begins a cell of its own, after a gap; smaller ones share cells with their
neighbours, as the hundreds of 2 MiB of the small pool would fill the page otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gpuward.memory_map.model import Group, State, largest_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuward.memory_map.model import Segment

SMALLEST_CELL_BYTES = 64 * 2**10


class Cell(NamedTuple):
    """Bytes of a range of addresses by state, in the order of ``State``."""

    allocated: int = 0
    pending: int = 0
    releasable: int = 0
    stranded: int = 0
    kept: int = 0

    @property
    def live_ratio(self) -> float:
        """The share that is allocated, 0 to 1."""
        return self.allocated / sum(self)

    @property
    def rest(self) -> State:
        """The state of most of what is not allocated; of nothing: allocated."""
        others = (State.PENDING_FREE, State.STRANDED, State.RELEASABLE, State.KEPT)
        largest = max(others, key=lambda state: self[state])
        return largest if self[largest] else State.ALLOCATED


class Line(NamedTuple):
    """A row of cells, ``None`` for a gap, from ``address`` on."""

    address: int
    cells: tuple[Cell | None, ...]


class Picture(NamedTuple):
    """A group in lines of cells of ``cell_bytes``."""

    group: Group
    cell_bytes: int
    lines: tuple[Line, ...]


def lay_out(segments: Iterable[Segment], *, columns: int, rows: int) -> list[Picture]:
    """Return the largest groups in lines of ``columns`` cells, some ``rows`` lines in all.

    The cell is the smallest power of two, from 64 KiB, with which that is enough.  A group that
    fills less than its one line has smaller ones.
    """
    found, _ = largest_groups(segments)
    cell_bytes = SMALLEST_CELL_BYTES
    while _rows(found, cell_bytes, columns) > max(rows, len(found)):
        cell_bytes *= 2
    return [_picture(group, cell_bytes, columns) for group in found]


def _picture(group: Group, cell_bytes: int, columns: int) -> Picture:
    while (
        cell_bytes > SMALLEST_CELL_BYTES and _cells_of(group.segments, cell_bytes // 2) <= columns
    ):
        cell_bytes //= 2
    return Picture(group, cell_bytes, tuple(_lines(group.segments, cell_bytes, columns)))


def _rows(found: Iterable[Group], cell_bytes: int, columns: int) -> int:
    return sum(-(-_cells_of(group.segments, cell_bytes) // columns) for group in found)


def _cells_of(segments: Iterable[Segment], cell_bytes: int) -> int:
    count = shared = 0
    for segment in segments:
        if segment.size < cell_bytes:
            shared += segment.size
            continue
        count += -(-shared // cell_bytes) + -(-segment.size // cell_bytes) + 2
        shared = 0
    return count + -(-shared // cell_bytes)


def _lines(segments: Iterable[Segment], cell_bytes: int, columns: int) -> Iterator[Line]:
    cells: list[Cell | None] = []
    address = 0
    for at, cell in _cells(segments, cell_bytes):
        if len(cells) == columns:
            yield _line(address, cells)
            cells = []
        if cell is None and not cells:
            continue
        if not cells:
            address = at
        cells.append(cell)
    if cells:
        yield _line(address, cells)


def _line(address: int, cells: list[Cell | None]) -> Line:
    # The end of the line is gap enough.
    return Line(address, tuple(cells if cells[-1] is not None else cells[:-1]))


def _cells(segments: Iterable[Segment], cell_bytes: int) -> Iterator[tuple[int, Cell | None]]:
    """Yield the address and content of each cell, ``None`` for the gap before a segment."""
    small: list[Segment] = []
    was_any = False
    for segment in segments:
        if segment.size < cell_bytes:
            small.append(segment)
            continue
        for run in filter(None, (small, [segment])):
            if was_any:
                yield run[0].address, None
            yield from _run(run, cell_bytes)
            was_any = True
        small = []
    if small:
        if was_any:
            yield small[0].address, None
        yield from _run(small, cell_bytes)


def _run(segments: list[Segment], cell_bytes: int) -> Iterator[tuple[int, Cell]]:
    """Yield the cells of ``segments`` as if each began where the last one ended."""
    content = [0] * len(State)
    address, room = segments[0].address, cell_bytes
    for segment in segments:
        for offset, size, state in segment.ranges():
            start, end = offset, offset + size
            while start < end:
                if room == cell_bytes:
                    address = segment.address + start
                taken = min(room, end - start)
                content[state] += taken
                start, room = start + taken, room - taken
                if room == 0:
                    yield address, Cell(*content)
                    content, room = [0] * len(State), cell_bytes
    if room < cell_bytes:
        yield address, Cell(*content)
