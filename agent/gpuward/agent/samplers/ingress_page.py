"""Add up counters of a metrics page into ours, by a table of selectors.  Pure.

Ingresses and clients of upstreams each count requests in their own way: by class of status, by
status, by kind of error.  What is wanted of a page is a table from our signal to the series that it
is the sum of; what the page has none of stays absent, but counters of failures, which appear with
the first failure, are 0 beside the requests that they are a part of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.engines.selector import Selector, selector
from gpuward.agent.openmetrics import PageParser, Series

if TYPE_CHECKING:
    from collections.abc import Mapping

# A signal that counts all requests of which others count a part.
WHOLE = "requests_total"
PARTS = ("requests_failed_total", "requests_timed_out_total", "requests_throttled_total")


@dataclass(frozen=True, slots=True)
class Counter:
    """The series that one of our counters is the sum of, and what turns it into our unit."""

    series: tuple[str, ...]
    factor: float = 1.0


def matcher(match: str) -> Selector:
    """Return what admits labels that ``match`` fits; raises ``ValueError``."""
    return selector(f"any{{{match}}}")


class CountersPage:
    """Reads the same page again and again.

    ``counters``: by what comes after the prefix of our signals; ``match``: what labels must be, as
    PromQL writes it between braces.
    """

    def __init__(self, counters: Mapping[str, Counter], match: str) -> None:
        self._match = matcher(match)
        self._wanted = [
            (name, selector(series), counter.factor)
            for name, counter in counters.items()
            for series in counter.series
        ]
        names = {wanted.name for _, wanted, _ in self._wanted}
        self._parser: PageParser[tuple[tuple[str, float], ...]] = PageParser(names, self._place_of)

    def read(self, text: str) -> dict[str, float]:
        """Return the counters that the page has, by name; raises ``ParseError``."""
        sums: dict[str, float] = {}
        for parts, value in zip(*self._parser.read(text), strict=True):
            # Also false of NaN: such a series counts nothing.
            if 0 <= value < float("inf"):
                for name, factor in parts:
                    sums[name] = sums.get(name, 0.0) + factor * value
        if WHOLE in sums:
            for name in PARTS:
                if any(name == wanted for wanted, _, _ in self._wanted):
                    sums.setdefault(name, 0.0)
        return sums

    def _place_of(self, series: Series) -> tuple[tuple[str, float], ...] | None:
        labels = series.labels
        if not self._match.admits(labels):
            return None
        parts = tuple(
            (name, factor)
            for name, wanted, factor in self._wanted
            if wanted.name == series.name and wanted.admits(labels)
        )
        return parts or None
