"""What is kept of ten seconds and of a minute.  Pure."""

from __future__ import annotations

from array import array
from math import nan
from typing import TYPE_CHECKING

from gpuward.agent.history_layout import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

NOTHING = array("f", (nan,)) * COLUMNS


def decade(rows: Sequence[array[float]], counters: Collection[int]) -> array[float]:
    """Return what is kept of ``rows``, oldest first: the mean of each column.

    ``counters``: the columns of which the last figure is kept instead.
    """
    kept = array("f", NOTHING)
    for number, figures in enumerate(zip(*rows, strict=True)):
        known = [figure for figure in figures if figure == figure]  # noqa: PLR0124 - not NaN
        if known:
            kept[number] = known[-1] if number in counters else sum(known) / len(known)
    return kept


def minute(rows: Sequence[array[float]]) -> array[float]:
    """Return the least and, after all of those, the most of each column of ``rows``."""
    least, most = array("f", NOTHING), array("f", NOTHING)
    for number, figures in enumerate(zip(*rows, strict=True)):
        known = [figure for figure in figures if figure == figure]  # noqa: PLR0124 - not NaN
        if known:
            least[number], most[number] = min(known), max(known)
    return least + most
