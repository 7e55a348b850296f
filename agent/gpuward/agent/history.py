"""An hour of the signals that explain an incident, by the second, and a day of them by ten seconds.

Each second is a row of float32 in memory of a fixed size.  Of ten seconds their mean is kept for a
day (of a counter the last value: a mean over a reset is a number that never was), and of every
minute the least and the most, because a mean hides just the moment at which memory ran out.
float32 is the only rounding: seven digits, which is 4 KiB in 80 GiB.

``history_mirror`` carries what changed to a file.  Nothing is mapped: a mapped file that somebody
truncates kills the process by SIGBUS, and a mapped page of a dead disk stops whoever touches it.

Steps of time are seconds of the monotonic clock, shifted so that they go on over a reboot.  A row
remembers its wall time; in this boot the offset of the reader counts instead, so that a clock that
was corrected since corrects the past with it.
"""

from __future__ import annotations

from array import array
from itertools import chain
from math import floor, inf, isfinite
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from gpuward.agent import history_fold
from gpuward.agent.history_directory import Content, Directory
from gpuward.agent.history_layout import (
    COLUMNS,
    DECADES,
    DIRECTORY_OFFSETS,
    MINUTES,
    SECONDS,
    Row,
)
from gpuward.agent.history_rows import HistoryRows
from gpuward.agent.history_signals import SIGNALS_KEPT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuward.agent.history_directory import Column
    from gpuward.agent.history_layout import Tier
    from gpuward.agent.model import Sample, SeriesKey

# A sample that comes later than this after its second is in the hour, and not in the day.
LATE_S = 5


class Point(NamedTuple):
    """A value at ``at_s``; with ``least`` and ``most`` it is of the ten seconds from then on.

    These two are of the whole minute that the ten seconds are in.
    """

    at_s: float
    value: float
    least: float | None = None
    most: float | None = None


class History:
    """The last hour and day of up to ``COLUMNS`` series."""

    def __init__(self, boot_id: str, *, now_s: float, wall_s: float) -> None:
        self._boot_id = boot_id
        self._boot = crc32(boot_id.encode())
        self.rows = HistoryRows()
        self._directory = Directory()
        self._wall_offset_s = wall_s - now_s
        # Any number will do that is larger than those of earlier boots.
        self._shift = floor(self._wall_offset_s)
        # Seconds that changed since ``advance``.
        self._open: dict[int, array[float]] = {}
        self._newest = 0
        # The newest step that was folded.
        self._folded = {tier: self._step(now_s) // tier.step_s - 1 for tier in (DECADES, MINUTES)}
        self._is_directory_new = True

    @property
    def series(self) -> int:
        """Return how many series are kept."""
        return self._directory.series

    @property
    def refused(self) -> int:
        """Return how many series did not fit, lately."""
        return self._directory.refused

    def forget_refused(self) -> None:
        """Begin to count anew what does not fit."""
        self._directory.forget_refused()

    def add(self, samples: Iterable[Sample]) -> None:
        """Keep the samples of signals in ``SIGNALS_KEPT``; of several in a second the last.

        One that is an hour late, or older than the first of its series, is not kept.
        """
        row_s, second = -inf, 0
        row: array[float] | None = None
        columns = self._directory.columns
        for key, at_s, value in samples:
            if key.signal not in SIGNALS_KEPT or not isfinite(value):
                continue
            if at_s != row_s:
                # Most of a batch is of one moment.
                row_s, second, row = at_s, self._step(at_s), None
            column = columns.get(key) or self._placed(key, second)
            if column is None or second <= self._newest - SECONDS.rows:
                continue
            if row is None:
                row = self._open_row(second)
            row[column.number] = value
            column.newest = max(column.newest, second)

    def advance(self, now_s: float, wall_s: float) -> None:
        """Put away the seconds that changed, and fold what is over."""
        self._wall_offset_s = wall_s - now_s
        self._put_open()
        self._fold_all(self._step(now_s) - LATE_S)

    def points(
        self, key: SeriesKey, since_s: float, until_s: float, wall_offset_s: float
    ) -> Iterator[list[Point]]:
        """Yield what is known with ``since_s <= at_s < until_s``, oldest first of each boot.

        Seconds for the last hour, ten seconds before.  What is of an earlier boot has the monotonic
        time that ``wall_offset_s`` makes of its wall time; it may be negative.  Points come by the
        hundred, so that others may have a turn while a day is read.
        """
        column = self._directory.columns.get(key)
        if column is None:
            return
        self._put_open()
        first, last = self._steps(since_s, until_s)
        # The first ten seconds of which every second is within the hour.
        border = -((SECONDS.rows - 1 - self._newest) // DECADES.step_s) * DECADES.step_s
        for points in chain(
            self._decades(column, first, min(last, border - 1), wall_offset_s),
            self._seconds(column, max(first, border), last, wall_offset_s),
        ):
            yield [point for point in points if since_s <= point.at_s < until_s]

    def go_on(self, generation: int, content: Content, now_s: float) -> bool:
        """Go on with what an earlier process has kept, and is in ``rows`` by now.

        Returns false when that cannot be: rows are of a time that has not come yet.
        """
        newest = {tier: self.rows.newest(tier) for tier in (SECONDS, DECADES, MINUTES)}
        last = max(step * tier.step_s for tier, step in newest.items())
        if content.boot_id == self._boot_id:
            shift = content.shift
        else:
            # The wall clock may be behind what it was in the boot before.
            shift = max(self._shift, last + MINUTES.step_s - floor(now_s))
        if last > floor(now_s) + shift:
            return False
        self._shift = shift
        self._newest = newest.pop(SECONDS)
        self._folded = newest
        self._directory.restore(generation, content, self._newest)
        # What that process did not come to; later, seconds may be gone.
        self._fold_all(min(self._newest + MINUTES.step_s, self._step(now_s) - LATE_S))
        return True

    def _step(self, at_s: float) -> int:
        return floor(at_s) + self._shift

    def _steps(self, since_s: float, until_s: float) -> tuple[int, int]:
        """Return the first and the last second that can be asked for."""
        # Before this boot there is more than one way from a time to a step: look at all of them.
        first = self._step(since_s) if since_s >= 0 and isfinite(since_s) else 0
        last = self._step(until_s) if until_s >= 0 and isfinite(until_s) else self._newest
        return first, min(last, self._newest)

    def _placed(self, key: SeriesKey, second: int) -> Column | None:
        column = self._directory.place(key, second)
        self._is_directory_new |= column is not None
        return column

    def _open_row(self, second: int) -> array[float]:
        row = self._open.get(second)
        if row is None:
            row = self._open[second] = self._row(second)
        return row

    def _row(self, second: int) -> array[float]:
        kept = self.rows.row(SECONDS, second)
        return array("f", history_fold.NOTHING) if kept is None else kept[1]

    def _put_open(self) -> None:
        if self._is_directory_new:
            # Before the rows that use it: a row of a directory that is not there is none.
            data = self._directory.encode(self._boot_id, self._shift)
            self.rows.write(DIRECTORY_OFFSETS[self._directory.generation % 2], data)
            self._is_directory_new = False
        for second in sorted(self._open):
            wall_s = second - self._shift + self._wall_offset_s
            row = Row(second, self._boot, self._directory.generation, wall_s)
            self.rows.put(SECONDS, row, self._open.pop(second).tobytes())
            self._newest = max(self._newest, second)

    def _fold_all(self, over: int) -> None:
        """Fold what ended by second ``over``, as far back as there are seconds."""
        for tier, folded in self._folded.items():
            last = max(folded, over // tier.step_s - 1)
            first = max(folded + 1, last - SECONDS.rows // tier.step_s)
            for step in range(first, last + 1):
                self._fold(tier, step)
            self._folded[tier] = last

    def _fold(self, tier: Tier, step: int) -> None:
        began = step * tier.step_s
        seconds = (self.rows.row(SECONDS, began + second) for second in range(tier.step_s))
        known = [second for second in seconds if second is not None]
        if not known:
            return
        figures = [figures for _, figures in known]
        if tier is DECADES:
            kept = history_fold.decade(figures, self._directory.counters())
        else:
            kept = history_fold.minute(figures)
        oldest = known[0][0]
        wall_s = oldest.wall_s - (oldest.step - began)
        row = Row(step, oldest.boot, self._directory.generation, wall_s)
        self.rows.put(tier, row, kept.tobytes())

    def _seconds(
        self, column: Column, first: int, last: int, wall_offset_s: float
    ) -> Iterator[list[Point]]:
        first = max(first, column.since)
        for rows in self.rows.column(SECONDS, column.number, first, last):
            yield [Point(self._at_s(row, 1, wall_offset_s), value) for row, value in rows]

    def _decades(
        self, column: Column, first: int, last: int, wall_offset_s: float
    ) -> Iterator[list[Point]]:
        """Yield what is kept of each ten seconds that lie between two seconds, both in."""
        step_s = DECADES.step_s
        # A ring may hold what is older than it is long, where nothing came since.
        first = max(first, column.since, self._newest - DECADES.rows * step_s)
        minutes = (first // MINUTES.step_s, last // MINUTES.step_s)
        least = self._by_step(column.number, *minutes)
        most = self._by_step(COLUMNS + column.number, *minutes)
        decades = (first // step_s, last // step_s)
        for rows in self.rows.column(DECADES, column.number, *decades):
            yield [
                Point(self._at_s(row, step_s, wall_offset_s), value, least.get(in_), most.get(in_))
                for row, value in rows
                for in_ in (row.step * step_s // MINUTES.step_s,)
            ]

    def _by_step(self, figure: int, first: int, last: int) -> dict[int, float]:
        chunks = self.rows.column(MINUTES, figure, first, last)
        return {row.step: value for rows in chunks for row, value in rows}

    def _at_s(self, row: Row, step_s: int, wall_offset_s: float) -> float:
        if row.boot == self._boot:
            return float(row.step * step_s - self._shift)
        return row.wall_s - wall_offset_s
