"""The memory that history lies in: as large as its file, read and written like one.

Memory from memfd_create(2) is not of any disk: it takes what is written and answers what is read,
always and at once.  What was written since is remembered by place, for whoever copies it to disk.
"""

from __future__ import annotations

import os
from array import array
from math import isfinite
from typing import TYPE_CHECKING

from gpuward.agent import history_layout as layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.history_layout import Row, Tier

# So many rows are copied at once to be read.
CHUNK_ROWS = 500


class HistoryRows:
    """Rows by tier and step, and the two directories."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("gpuward-history", os.MFD_CLOEXEC)
        # Size by offset; there are no more places than rows.
        self._unwritten: dict[int, int] = {}
        self.clear()

    def __del__(self) -> None:
        os.close(self.fd)

    def clear(self) -> None:
        """Forget everything."""
        os.ftruncate(self.fd, 0)
        os.ftruncate(self.fd, layout.SIZE)
        os.pwrite(self.fd, layout.header(), 0)

    def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` where it belongs."""
        os.pwrite(self.fd, data, offset)
        self._unwritten[offset] = len(data)

    def put(self, tier: Tier, row: Row, figures: bytes) -> None:
        """Keep a row in place of the one that is as old as the tier is long."""
        self.write(tier.offset_of(row.step), layout.pack_row(row, figures))

    def row(self, tier: Tier, step: int) -> tuple[Row, array[float]] | None:
        """Return a whole row; ``None`` when it is not there."""
        raw = os.pread(self.fd, tier.row_size, tier.offset_of(step))
        row = layout.unpack_row(raw)
        if row is None or row.step != step:
            return None
        return row, array("f", layout.figures_of(raw))

    def column(
        self, tier: Tier, figure: int, first: int, last: int
    ) -> Iterator[list[tuple[Row, float]]]:
        """Yield one figure of each row from step ``first`` to ``last``, both in, oldest first.

        A few hundred at once; rows that are not there, and figures that are not, are left out.
        """
        first = max(first, last - tier.rows + 1)
        while first <= last:
            place = first % tier.rows
            rows = min(CHUNK_ROWS, last - first + 1, tier.rows - place)
            raw = os.pread(self.fd, rows * tier.row_size, tier.offset_of(first))
            # A place that holds a row of another time holds none of this.
            yield [
                (row, value)
                for step, (row, value) in enumerate(layout.column_of(raw, tier, figure), first)
                if row.step == step and isfinite(value)
            ]
            first += rows

    def newest(self, tier: Tier) -> int:
        """Return the newest step that there is a row of; 0 for none."""
        newest = 0
        for place in range(0, tier.rows, CHUNK_ROWS):
            rows = min(CHUNK_ROWS, tier.rows - place)
            raw = os.pread(self.fd, rows * tier.row_size, tier.offset + place * tier.row_size)
            newest = max(newest, *(row.step for row, _ in layout.column_of(raw, tier, 0)))
        return newest

    def take_unwritten(self) -> dict[int, int]:
        """Return size by offset of what was put since the last call."""
        unwritten, self._unwritten = self._unwritten, {}
        return unwritten

    def give_back(self, unwritten: dict[int, int]) -> None:
        """Remember what could not be written after all."""
        self._unwritten = unwritten | self._unwritten
