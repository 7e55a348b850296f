"""Draw tables for terminals of any width, with colours only where they are wanted.  Pure.

A table that does not fit leaves columns out, the least important first, rather than break its
lines: a row of a node at three in the morning is read at a glance or not at all.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gpuward.memory_map.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NARROWEST = 30
GAP = "  "
NOTHING = "-"
_RESET = "\x1b[0m"


class Tone(StrEnum):
    """How a piece of text is meant; the value is what a terminal is told (SGR)."""

    PLAIN = ""
    HEADING = "\x1b[1m"
    GOOD = "\x1b[32m"
    # Told apart from BAD by people who see no red: it is also the word that says so.
    WARNING = "\x1b[33m"
    BAD = "\x1b[1;31m"
    FAINT = "\x1b[2m"


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a place of a table."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and its cells; of those that do not fit the highest ``rank`` goes first."""

    heading: str
    cells: tuple[Cell, ...]
    rank: int = 0
    is_number: bool = True

    @property
    def width(self) -> int:
        return max(len(self.heading), *(len(cell.text) for cell in self.cells))


def table(columns: Sequence[Column], *, width: int, colours: bool) -> Iterator[str]:
    """Yield the heading and the rows of what fits; columns in which nobody has a word are left out.

    A single column stays, however narrow the terminal.
    """
    shown = [column for column in columns if any(c.text != NOTHING for c in column.cells)]
    while len(shown) > 1 and _width(shown) > width:
        shown.remove(max(reversed(shown), key=lambda column: column.rank))
    if not shown:
        return
    heading = GAP.join(_padded(column, column.heading) for column in shown)
    yield painted(heading.rstrip()[:width], Tone.HEADING, colours=colours)
    for row in zip(*(column.cells for column in shown), strict=True):
        cells = zip(shown, row, strict=True)
        line = GAP.join(
            painted(_padded(column, cell.text), cell.tone, colours=colours)
            for column, cell in cells
        )
        yield line.rstrip()


def wrapped(text: str, *, width: int, indent: str) -> Iterator[str]:
    """Yield ``text`` in lines of ``width``, all of them indented; nothing in it steers."""
    yield from textwrap.wrap(
        plain(text),
        max(NARROWEST, width),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def painted(text: str, tone: Tone, *, colours: bool) -> str:
    """Return ``text`` in its tone."""
    return f"{tone}{text}{_RESET}" if colours and tone and text else text


def duration(seconds: float) -> str:
    """Return ``seconds`` in its largest unit: 12 s, 5 min, 3 h, 2 d."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _padded(column: Column, text: str) -> str:
    return text.rjust(column.width) if column.is_number else text.ljust(column.width)
