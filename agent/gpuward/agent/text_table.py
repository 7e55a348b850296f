"""Draw tables for terminals of any width, with colours only where they are wanted.  Pure.

A table that does not fit leaves columns out, the least important first, rather than break its
lines: a row that goes over two is not read at a glance.
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
    """A heading and its cells; where there is little room the lowest ``rank`` gets it."""

    heading: str
    cells: tuple[Cell, ...]
    rank: int = 0
    is_number: bool = True

    @property
    def width(self) -> int:
        return max(len(self.heading), *(len(cell.text) for cell in self.cells))


def table(columns: Sequence[Column], *, width: int, colours: bool) -> Iterator[str]:
    """Yield the heading and the rows of what fits; columns in which nobody has a word are left out.

    The column of the lowest rank stays, however narrow the terminal.
    """
    shown = _fitting(columns, width)
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


def clipped(text: str, width: int) -> str:
    """Return ``text`` in one line of at most ``width``, a mark where it was cut."""
    text = plain(text)
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


def painted(text: str, tone: Tone, *, colours: bool) -> str:
    """Return ``text`` in its tone."""
    return f"{tone}{text}{_RESET}" if colours and tone and text else text


def duration(seconds: float) -> str:
    """Return ``seconds`` in its largest unit: 12 s, 5 min, 3 h, 2 d."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns that have a word and fit, taken in order of their ranks."""
    shown: list[Column] = []
    for column in sorted(columns, key=lambda column: column.rank):
        has_words = any(cell.text != NOTHING for cell in column.cells)
        if has_words and (not shown or _width([*shown, column]) <= width):
            shown.append(column)
    return [column for column in columns if column in shown]


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _padded(column: Column, text: str) -> str:
    return text.rjust(column.width) if column.is_number else text.ljust(column.width)
