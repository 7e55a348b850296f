"""Draw a memory map as one self-contained SVG, for a page, a ticket or a mail.

The same cells as in the terminal, finer: from the bottom up allocated, pending, stranded,
releasable.  Light or dark as the reader's system is, no script, nothing loaded; its title and
description say in words what the picture shows.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from gpuward.memory_map.cells import lay_out
from gpuward.memory_map.model import State, totals
from gpuward.memory_map.text import left_out_text, plain, size_text, stream_text, taken_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuward.memory_map.cells import Line, Picture
    from gpuward.memory_map.model import MemoryMap, Totals

LINES = 24
WIDTH = 960
_MARGIN = 16
_LEFT = 120
_CELL_WIDTH = 2
_COLUMNS = (WIDTH - _LEFT - _MARGIN) // _CELL_WIDTH
_BAR_HEIGHT = 24
_LINE_HEIGHT = 30
_TEXT_HEIGHT = 20
# From the bottom of a bar up.
_ORDER = (
    State.ALLOCATED,
    State.PENDING_FREE,
    State.STRANDED,
    State.RELEASABLE,
    State.KEPT,
)
_NAMES = {
    State.ALLOCATED: "allocated",
    State.PENDING_FREE: "pending",
    State.STRANDED: "stranded",
    State.RELEASABLE: "releasable",
    State.KEPT: "kept",
}
_MEANINGS = {
    State.ALLOCATED: "in use",
    State.PENDING_FREE: "freed, a stream holds it",
    State.STRANDED: "free, but pinned",
    State.RELEASABLE: "free, can go back",
    State.KEPT: "free, in a private pool",
}
# For the document itself, and for a page that has ``bars`` in it.
STYLE = """
.memory-map .page{fill:#fff}.memory-map .text{fill:#1d2023}.memory-map .muted{fill:#565c63}
.memory-map .allocated{fill:#1f6fb5}.memory-map .pending{fill:#e0b000}
.memory-map .stranded{fill:#c8503c}.memory-map .releasable{fill:#8fd0b4}
.memory-map .kept{fill:#a5aab0}
.memory-map text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;white-space:pre}
.memory-map .head{font-size:16px;font-weight:600}
.memory-map .mono{font-family:ui-monospace,Menlo,monospace;font-size:12px}
@media(prefers-color-scheme:dark){
.memory-map .page{fill:#1a1d21}.memory-map .text{fill:#e4e6e8}.memory-map .muted{fill:#a3aab2}
.memory-map .allocated{fill:#5aa5e6}.memory-map .pending{fill:#e8cb5a}
.memory-map .stranded{fill:#e0705c}.memory-map .releasable{fill:#3f7a63}
.memory-map .kept{fill:#6b7178}}
"""


class Part(NamedTuple):
    """An entry of the legend, with what the map has of it."""

    name: str
    meaning: str
    size: int


def render(memory_map: MemoryMap) -> str:
    """Return the whole SVG document."""
    sums = totals(memory_map.segments)
    parts: list[str] = []
    y = _MARGIN + _TEXT_HEIGHT
    for kind, text in _head(memory_map, sums):
        parts.append(_text(_MARGIN, y, text, kind))
        y += _TEXT_HEIGHT
    parts += _legend(y, sums)
    y += 2 * _TEXT_HEIGHT
    for picture in pictures(memory_map, rows=LINES):
        y += _TEXT_HEIGHT
        scale = f"{size_text(picture.cell_bytes)} a column"
        parts.append(_text(_MARGIN, y, f"{heading(picture)} · {scale}", "text"))
        y += _TEXT_HEIGHT // 2
        for line in picture.lines:
            parts += _line(line, y)
            y += _LINE_HEIGHT
    for note in (*left_out_text(memory_map), "A segment begins after a gap."):
        y += _TEXT_HEIGHT
        parts.append(_text(_MARGIN, y, note, "muted"))
    return _document(memory_map, sums, parts, y + _MARGIN)


def legend(sums: Totals) -> tuple[Part, ...]:
    """Return the states from the bottom of a bar up."""
    sizes = {
        State.ALLOCATED: sums.allocated,
        State.PENDING_FREE: sums.pending,
        State.STRANDED: sums.stranded,
        State.RELEASABLE: sums.releasable,
        State.KEPT: sums.kept,
    }
    return tuple(Part(_NAMES[state], _MEANINGS[state], sizes[state]) for state in _ORDER)


def pictures(memory_map: MemoryMap, *, rows: int) -> list[Picture]:
    """Return what ``bars`` draws, one after the other."""
    return lay_out(memory_map.segments, columns=_COLUMNS, rows=rows)


def heading(picture: Picture) -> str:
    """Return what is in a picture."""
    sums = totals(picture.group.segments)
    return (
        f"{picture.group.pool} pool, stream {stream_text(picture.group.stream)} ·"
        f" {sums.segments:,} {'segment' if sums.segments == 1 else 'segments'},"
        f" {size_text(sums.reserved)} reserved, {size_text(sums.stranded)} stranded,"
        f" largest hole {size_text(sums.largest_hole)}"
    )


def bars(picture: Picture) -> str:
    """Return the bars as an element of a page that has ``STYLE``, as wide as its place.

    Addresses appear under a pointer.
    """
    height = len(picture.lines) * _LINE_HEIGHT
    lines = "".join(
        f"<g><title>{line.address:012x}</title>{''.join(_bars(line, 0, place * _LINE_HEIGHT))}</g>"
        for place, line in enumerate(picture.lines)
    )
    return (
        f'<svg class="memory-map" viewBox="0 0 {_COLUMNS * _CELL_WIDTH} {height}"'
        f' height="{height}" preserveAspectRatio="none" role="img"'
        f' aria-label="{_escaped(heading(picture))}">{lines}</svg>'
    )


def _document(memory_map: MemoryMap, sums: Totals, parts: Iterable[str], height: int) -> str:
    title = f"GPU memory of {memory_map.process}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="memory-map"'
        f' viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" role="img" aria-labelledby="title desc">\n'
        f'<title id="title">{_escaped(title)}</title>\n'
        f'<desc id="desc">{_escaped(_description(memory_map, sums))}</desc>\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="page" width="100%" height="100%"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _description(memory_map: MemoryMap, sums: Totals) -> str:
    return (
        f"{memory_map.gpu}, {taken_text(memory_map.taken_at_s)}."
        f" {size_text(sums.reserved)} reserved in {sums.segments} segments:"
        f" {size_text(sums.allocated)} allocated,"
        f" {size_text(sums.pending)} pending, {size_text(sums.releasable)} releasable,"
        f" {size_text(sums.stranded)} stranded, {size_text(sums.kept)} kept by private pools;"
        f" the largest hole has"
        f" {size_text(sums.largest_hole)}."
    )


def _head(memory_map: MemoryMap, sums: Totals) -> Iterator[tuple[str, str]]:
    yield "text head", f"{memory_map.process} · pid {memory_map.pid}"
    yield "muted", f"{memory_map.gpu} · {taken_text(memory_map.taken_at_s)}"
    held = f"{size_text(sums.reserved)} reserved in {sums.segments:,} segments"
    hole = f"largest hole {size_text(sums.largest_hole)}"
    yield "text", f"{held} and {sums.blocks:,} blocks · {hole}"
    if memory_map.is_truncated:
        yield "text", "There is more: the highest addresses did not fit into the answer."


def _legend(y: int, sums: Totals) -> Iterator[str]:
    parts = legend(sums)
    step = (WIDTH - 2 * _MARGIN) // len(parts)
    for place, part in enumerate(parts):
        x = _MARGIN + place * step
        yield f'<rect class="{part.name}" x="{x}" y="{y - 11}" width="13" height="13" rx="2"/>'
        yield _text(x + 20, y, f"{part.name} {size_text(part.size)}", "text")
        yield _text(x + 20, y + _TEXT_HEIGHT - 3, part.meaning, "muted")


def _line(line: Line, y: int) -> Iterator[str]:
    yield _text(_MARGIN, y + 16, f"{line.address:012x}", "muted mono")
    yield from _bars(line, _LEFT, y)


def _bars(line: Line, x: int, y: int) -> Iterator[str]:
    for state in _ORDER:
        path = "".join(_pieces(line, state, x, y))
        if path:
            yield f'<path class="{_NAMES[state]}" d="{path}"/>'


def _pieces(line: Line, state: State, x: int, y: int) -> Iterator[str]:
    """Yield the rectangles of one state; neighbours of one height are one."""
    start, extent = 0, (0, 0)
    for column in range(len(line.cells) + 1):
        now = _extent(line, column, state)
        if now == extent:
            continue
        bottom, height = extent
        if height:
            width = (column - start) * _CELL_WIDTH
            left, top = x + start * _CELL_WIDTH, y + _BAR_HEIGHT - bottom - height
            yield f"M{left} {top}h{width}v{height}h-{width}z"
        start, extent = column, now


def _extent(line: Line, column: int, state: State) -> tuple[int, int]:
    """Return from where up, and how high, ``state`` reaches in a column; pixels."""
    cell = line.cells[column] if column < len(line.cells) else None
    if cell is None:
        return 0, 0
    below = sum(cell[other] for other in _ORDER[: _ORDER.index(state)])
    whole = sum(cell)
    bottom = round(_BAR_HEIGHT * below / whole)
    return bottom, round(_BAR_HEIGHT * (below + cell[state]) / whole) - bottom


def _text(x: int, y: int, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    # Control characters are no XML, whatever they are escaped to.
    return escape(plain(text))
