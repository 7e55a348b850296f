"""What a benchmark says: a figure, the budget it has to keep, and whether it does.

A figure without a budget is told for context (a floor, a peer, a share) and cannot miss.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; ``spread`` is the lowest and highest of the runs it is the median of."""

    name: str
    value: float
    unit: str
    budget: float | None = None
    # Whether the budget is a floor (a rate) and not a ceiling.
    at_least: bool = False
    spread: tuple[float, float] | None = None
    # The same against a peer or a limit measured in the same run: "31x of prometheus_client".
    ratio: str = ""

    @property
    def is_missed(self) -> bool:
        if self.budget is None:
            return False
        # Said so that what is not a number misses too.
        is_kept = self.value >= self.budget if self.at_least else self.value <= self.budget
        return not is_kept

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return "told"
        return "MISSED" if self.is_missed else "kept"


def of_runs(
    name: str,
    runs: Sequence[float],
    unit: str,
    *,
    budget: float | None = None,
    at_least: bool = False,
    ratio: str = "",
) -> Figure:
    """Return the figure whose value is the median of ``runs``, one value a run, at least one."""
    spread = (min(runs), max(runs)) if len(runs) > 1 else None
    return Figure(name, statistics.median(runs), unit, budget, at_least, spread, ratio)


def table(figures: Sequence[Figure]) -> str:
    """Return one line a figure, columns aligned."""
    rows = [("what", "figure", "lowest..highest", "budget", "against", "verdict")]
    rows += [_row(figure) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _row(figure: Figure) -> tuple[str, ...]:
    spread, budget = "", ""
    if figure.spread is not None:
        spread = f"{_short(figure.spread[0])}..{_short(figure.spread[1])}"
    if figure.budget is not None:
        budget = f"{'>=' if figure.at_least else '<='} {figure.budget:g} {figure.unit}"
    value = f"{_short(figure.value)} {figure.unit}"
    return figure.name, value, spread, budget, figure.ratio, figure.verdict


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
