"""Which series of history has which column, and since when.  Pure but for its own state.

A column is given away again only when there is no free one and its series has been silent for an
hour; from then on it is the new series', and what lies in it from before is nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from gpuward.agent.history_layout import COLUMNS, MAX_STEP, pack_directory
from gpuward.agent.history_signals import SIGNALS_KEPT
from gpuward.agent.model import SeriesKey

if TYPE_CHECKING:
    from collections.abc import Mapping

SILENT_S = 3_600
# Of processes there may be any number; GPUs, services and the node must find room beside them.
PROCESS_COLUMNS = 110
MAX_ENTRY_SIZE = 1_000


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A column; ``since`` is the step, in seconds, of its series' first figure."""

    column: int
    since: int
    signal: str
    gpu: str
    process: str
    service: str
    endpoint: str = ""


class Content(msgspec.Struct, frozen=True):
    """``shift`` turns monotonic seconds of boot ``boot_id`` into steps."""

    boot_id: str
    shift: Annotated[int, Meta(ge=0, le=MAX_STEP)]
    entries: tuple[Entry, ...] = ()


@dataclass(slots=True)
class Column:
    """A series' place; ``newest`` is the second of its newest figure."""

    number: int
    since: int
    newest: int


@dataclass(slots=True)
class Directory:
    """The columns that are taken."""

    generation: int = 0
    _columns: dict[SeriesKey, Column] = field(default_factory=dict)
    _refused: set[SeriesKey] = field(default_factory=set)

    @property
    def series(self) -> int:
        return len(self._columns)

    @property
    def refused(self) -> int:
        return len(self._refused)

    def forget_refused(self) -> None:
        self._refused.clear()

    @property
    def columns(self) -> Mapping[SeriesKey, Column]:
        return self._columns

    def place(self, key: SeriesKey, second: int) -> Column | None:
        """Return the column of ``key``, given to it now if need be; ``None`` without room."""
        column = self._columns.get(key)
        if column is not None:
            return column
        number = None if key in self._refused else self._free(key, second)
        if number is None or not _is_storable(Entry(number, second, *key)):
            self._refused.add(key)
            return None
        column = self._columns[key] = Column(number, second, second)
        self.generation += 1
        return column

    def encode(self, boot_id: str, shift: int) -> bytes:
        """Return the directory as it is stored."""
        entries = tuple(Entry(c.number, c.since, *key) for key, c in self._columns.items())
        body = msgspec.json.encode(Content(boot_id, shift, entries))
        return pack_directory(self.generation, body)

    def counters(self) -> frozenset[int]:
        """Return the columns whose series only count up."""
        return frozenset(
            column.number for key, column in self._columns.items() if key.signal.endswith("_total")
        )

    def restore(self, generation: int, content: Content, newest: int) -> None:
        """Take the columns of ``content``, as far as they can be so."""
        # What is written from now on is of another boot, or of another second at least.
        self.generation = generation + 1
        for entry in content.entries:
            key = SeriesKey(entry.signal, entry.gpu, entry.process, entry.service, entry.endpoint)
            is_free = entry.column not in {column.number for column in self._columns.values()}
            is_new = entry.signal in SIGNALS_KEPT and key not in self._columns
            if 0 <= entry.column < COLUMNS and is_free and is_new:
                self._columns[key] = Column(entry.column, entry.since, newest)

    def _free(self, key: SeriesKey, second: int) -> int | None:
        rivals = dict(self._columns)
        if key.process:
            rivals = {other: c for other, c in rivals.items() if other.process}
        limit = PROCESS_COLUMNS if key.process else COLUMNS
        if len(rivals) < limit and len(self._columns) < COLUMNS:
            taken = {column.number for column in self._columns.values()}
            return next(number for number in count() if number not in taken)
        silent = min(rivals, key=lambda other: rivals[other].newest, default=None)
        if silent is None or rivals[silent].newest > second - SILENT_S:
            return None
        return self._columns.pop(silent).number


def _is_storable(entry: Entry) -> bool:
    """Return whether a directory that is full of such entries has room for them."""
    try:
        return len(msgspec.json.encode(entry)) <= MAX_ENTRY_SIZE
    except UnicodeEncodeError:
        return False
