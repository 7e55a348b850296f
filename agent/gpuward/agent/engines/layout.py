"""Work out once which samples of a page make up which figure; read pages laid out so.  Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from gpuward.agent import engine_kv_cache
from gpuward.agent.engines.engine_map import WITH_PERCENTILE
from gpuward.agent.engines.reading import Buckets, Reading, Timing
from gpuward.agent.model_name import model_name

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from gpuward.agent.engines.engine_map import (
        Duration,
        DurationName,
        EngineMap,
        Figure,
        FigureName,
    )
    from gpuward.agent.openmetrics import Series

    Values = Sequence[float]

# Where a sample stands on the page.
At = int


@dataclass(frozen=True, slots=True)
class _Term:
    """A term of a figure: series of ``groups[i]`` are copies of one another."""

    name: str
    groups: tuple[tuple[At, ...], ...]
    factor: float
    is_largest: bool

    def value(self, values: Values) -> float:
        each = [max(values[at] for at in group) for group in self.groups]
        together = max(each) if self.is_largest and each else sum(each)
        return together * self.factor


@dataclass(frozen=True, slots=True)
class _Histogram:
    """Buckets of all series of a histogram, edge by edge."""

    name: str
    edges: tuple[float, ...]
    # One for each series.
    counts: tuple[Callable[[Values], tuple[float, ...]], ...]

    def value(self, values: Values) -> Buckets | None:
        first, *others = (counts(values) for counts in self.counts)
        total = tuple(map(sum, zip(first, *others, strict=True))) if others else first
        is_sound = total[0] >= 0 and all(map(_at_most, total, total[1:])) and total[-1] < math.inf
        return Buckets(self.edges, total) if is_sound else None


class Layout:
    """The samples of a page in their order, and what they are for.

    ``declared``: counters that the page names; one without a sample has counted nothing yet.
    """

    def __init__(
        self, engine_map: EngineMap, page: Sequence[Series], declared: Container[str]
    ) -> None:
        self._map = engine_map
        self._page = page
        self._declared = declared
        self._at: dict[str, list[At]] = defaultdict(list)
        for at, series in enumerate(page):
            self._at[series.name].append(at)
        self._figures = {name: self._terms(engine_map.terms(name)) for name in engine_map.figures}
        self._durations = {
            name: self._duration(name, duration) for name, duration in engine_map.durations.items()
        }
        self._missing = (
            *(name for name, terms in self._figures.items() if not terms),
            *(name for name, parts in self._durations.items() if parts == (None, None, None)),
        )
        self._started = [at for name in engine_map.started for at in self._at.get(name, ())]
        self._model = self._model_of_page()
        self._kv_cache = [page[at].labels for at in self._at.get(engine_map.kv_cache_info, ())]
        self._usages = self._first(engine_kv_cache.USAGE) or []

    def read(self, values: Values) -> Reading:
        """Return what a page laid out so says; ``values`` in its order."""
        broken: list[str] = []
        figures = {
            name: value
            for name, terms in self._figures.items()
            if terms and (value := _figure(name, terms, values, broken)) is not None
        }
        durations = {
            name: timing
            for name, parts in self._durations.items()
            if (timing := _timing(parts, values, broken)) is not None
        }
        return Reading(
            figures=figures,
            durations=durations,
            started_wall_s=min((values[at] for at in self._started), default=None),
            model=self._model,
            kv_cache=engine_kv_cache.read(self._kv_cache, [values[at] for at in self._usages]),
            missing=self._missing,
            broken=tuple(broken),
        )

    def _terms(self, wanted: Sequence[Figure]) -> tuple[_Term, ...]:
        """Return the terms that the page has; none when it lacks the first."""
        found = [self._term(term) for term in wanted]
        if not found or found[0] is None:
            return ()
        return tuple(term for term in found if term is not None)

    def _term(self, figure: Figure) -> _Term | None:
        for name in figure.names:
            if name in self._at or name in self._declared:
                groups = self._groups(self._at.get(name, ()), figure.where)
                if groups or figure.across == "sum":
                    return _Term(name, groups, figure.factor, figure.across == "max")
        return None

    def _groups(
        self, places: Iterable[At], where: Mapping[str, Sequence[str]]
    ) -> tuple[tuple[At, ...], ...]:
        groups: dict[object, list[At]] = defaultdict(list)
        for at in places:
            labels = self._page[at].labels
            if all(labels.get(label) in allowed for label, allowed in where.items()):
                groups[self._identity(labels)].append(at)
        return tuple(map(tuple, groups.values()))

    def _identity(self, labels: Mapping[str, str]) -> object:
        """Return what two series have in common when one is a copy of the other."""
        return frozenset(one for one in labels.items() if one[0] not in self._map.copies)

    def _duration(
        self, name: DurationName, duration: Duration
    ) -> tuple[_Term | None, _Term | None, _Histogram | None]:
        seconds, count = duration.sum, duration.count
        histogram = None
        for alias in duration.histogram:
            if f"{alias}_sum" in self._at or f"{alias}_bucket" in self._at:
                seconds, count = (f"{alias}_sum",), (f"{alias}_count",)
                if name in WITH_PERCENTILE:
                    histogram = self._histogram(alias, duration)
                break
        return self._sum(seconds, duration, duration.factor), self._sum(count, duration), histogram

    def _sum(self, names: Sequence[str], duration: Duration, factor: float = 1.0) -> _Term | None:
        for name in names:
            if groups := self._groups(self._at.get(name, ()), duration.where):
                return _Term(name, groups, factor, is_largest=False)
        return None

    def _histogram(self, alias: str, duration: Duration) -> _Histogram | None:
        # Triton's documentation shows buckets under the bare name.
        places = self._at.get(f"{alias}_bucket") or self._at.get(alias, [])
        series: dict[object, dict[float, At]] = defaultdict(dict)
        for (at,) in (group[:1] for group in self._groups(places, duration.where)):
            labels = dict(self._page[at].labels)
            edge = _edge(labels.pop("le", ""))
            if edge is not None:
                series[self._identity(labels)][edge * duration.factor] = at
        shared = set.intersection(*map(set, series.values())) if series else set()
        edges = tuple(sorted(shared))
        if len(edges) < 2 or edges[-1] != math.inf:  # noqa: PLR2004 - one edge and infinity
            return None
        counts = tuple(itemgetter(*(one[edge] for edge in edges)) for one in series.values())
        return _Histogram(alias, edges, counts)

    def _first(self, names: Iterable[str]) -> list[At] | None:
        return next((self._at[name] for name in names if name in self._at), None)

    def _model_of_page(self) -> str:
        label = self._map.model_label
        names = {one.labels[label] for one in self._page if label in one.labels}
        return model_name(names.pop()) if len(names) == 1 else ""


def _figure(
    name: FigureName, terms: Sequence[_Term], values: Values, broken: list[str]
) -> float | None:
    total = 0.0
    for term in terms:
        value = term.value(values)
        # Signs differ by what a term does to the sum; NaN is neither.
        if not 0 <= value / term.factor < math.inf:
            broken.append(f"{term.name} is {value:g}")
            return None
        total += value
    if name.endswith("_ratio") and total > 1:
        broken.append(f"{terms[0].name} is {total:g}, above 1")
        return None
    return max(total, 0.0)


def _timing(
    parts: tuple[_Term | None, _Term | None, _Histogram | None], values: Values, broken: list[str]
) -> Timing | None:
    seconds, count = (_plain(term, values, broken) for term in parts[:2])
    buckets = parts[2].value(values) if parts[2] else None
    if parts[2] and buckets is None:
        broken.append(f"buckets of {parts[2].name} fall")
    if count is None and buckets is not None:
        count = buckets.counts[-1]
    if seconds is None and buckets is None:
        return None
    return Timing(seconds, count, buckets)


def _plain(term: _Term | None, values: Values, broken: list[str]) -> float | None:
    if term is None:
        return None
    value = term.value(values)
    if 0 <= value < math.inf:
        return value
    broken.append(f"{term.name} is {value:g}")
    return None


def _at_most(lower: float, upper: float) -> bool:
    return lower <= upper


def _edge(text: str) -> float | None:
    try:
        edge = float(text)
    except ValueError:
        return None
    return None if math.isnan(edge) else edge
