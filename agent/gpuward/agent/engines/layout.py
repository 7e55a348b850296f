"""Work out once which samples of a page make up which figure; read pages laid out so.  Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from gpuward.agent import engine_kv_cache
from gpuward.agent.engines.engine_map import WITH_PERCENTILE
from gpuward.agent.engines.reading import RankQueue, Reading
from gpuward.agent.engines.selector import Selector, selector
from gpuward.agent.engines.sums import Histogram, Parts, Sum, figure_of, timing_of
from gpuward.agent.model_name import model_name

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from gpuward.agent.engines.engine_map import Duration, EngineMap, Figure
    from gpuward.agent.engines.sums import At, Values
    from gpuward.agent.openmetrics import Series


# The year 2286: a start beyond it is none.
LATEST_WALL_S = 1e10


class Layout:
    """The samples of a page in their order, and what they are for."""

    def __init__(self, kind: str, engine_map: EngineMap, page: Sequence[Series]) -> None:
        self._kind = kind
        self._map = engine_map
        self._series = _PageSeries(page, engine_map.copies)
        self._figures = {
            name: self._series.terms(terms, is_count=name.endswith("_total"))
            for name, terms in engine_map.figures.items()
        }
        self._durations = {
            name: self._series.parts(duration, with_buckets=name in WITH_PERCENTILE)
            for name, duration in engine_map.durations.items()
        }
        self._missing = (
            *(name for name, terms in self._figures.items() if not terms),
            *(name for name, parts in self._durations.items() if parts == Parts()),
        )
        self._queues = self._series.by_rank(
            engine_map.figures.get("requests_waiting", ()),
            engine_map.figures.get("requests_running", ()),
            engine_map.rank_label,
        )
        self._started = self._series.first(engine_map.started)
        self._model = model_name(_only(page, engine_map.model_label))
        self._model_version = _only(page, engine_map.version_label)
        self._kv_caches = [
            page[at].labels for at in self._series.first((engine_map.kv_cache_info,))
        ]
        self._usages = [
            (page[at].labels.get(engine_map.rank_label, ""), at)
            for at in self._series.first(engine_kv_cache.USAGE)
        ]

    def read(self, values: Values) -> Reading:
        """Return what a page laid out so says; ``values`` in its order."""
        broken: list[str] = []
        figures = {
            name: value
            for name, terms in self._figures.items()
            if (value := figure_of(name, terms, values, broken)) is not None
        }
        durations = {
            name: timing
            for name, parts in self._durations.items()
            if (timing := timing_of(parts, values, broken)) is not None
        }
        started = [values[at] for at in self._started if 0 < values[at] < LATEST_WALL_S]
        return Reading(
            kind=self._kind,
            figures=figures,
            durations=durations,
            started_wall_s=min(started, default=None),
            model=self._model,
            model_version=self._model_version,
            kv_cache=engine_kv_cache.read(self._kv_caches, self._used(values)),
            longest_queue=self._longest_queue(values),
            missing=self._missing,
            broken=tuple(broken),
        )

    def _used(self, values: Values) -> list[tuple[str, float]]:
        return [(rank, values[at]) for rank, at in self._usages]

    def _longest_queue(self, values: Values) -> RankQueue | None:
        """Return the queue of the rank at which most wait; ``None`` of a single rank."""
        # What is broken is said of the sums already.
        said: list[str] = []
        found = (
            (waiting.of(values, said), running.of(values, said))
            for waiting, running in self._queues
        )
        known = [(wait, run) for wait, run in found if wait is not None and run is not None]
        return RankQueue(*max(known)) if len(known) > 1 else None


class _PageSeries:
    """The series of a page, found by selectors."""

    def __init__(self, page: Sequence[Series], copies: Container[str]) -> None:
        self._page = page
        self._copies = copies
        self._at: dict[str, list[At]] = defaultdict(list)
        for at, series in enumerate(page):
            self._at[series.name].append(at)

    def first(self, names: Iterable[str]) -> Sequence[At]:
        """Return the places of the first of ``names`` that the page has."""
        return next((self._at[name] for name in names if name in self._at), ())

    def terms(self, wanted: Sequence[Figure], *, is_count: bool) -> tuple[Sum, ...]:
        """Return the terms that the page has; none when it lacks the first."""
        found = [self._term(term, is_count=is_count) for term in wanted]
        if not found or found[0] is None:
            return ()
        return tuple(term for term in found if term is not None)

    def parts(self, duration: Duration, *, with_buckets: bool) -> Parts:
        """Return what the page has of a duration."""
        if not duration.histogram:
            return Parts(self._sum(duration.sum, duration.factor), self._sum(duration.count), None)
        for one in map(selector, duration.histogram):
            parts = Parts(
                self._all(one, "_sum", duration.factor),
                self._all(one, "_count"),
                self._histogram(one, duration.factor) if with_buckets else None,
            )
            if parts != Parts():
                return parts
        return Parts()

    def by_rank(
        self, waiting: Sequence[Figure], running: Sequence[Figure], label: str
    ) -> tuple[tuple[Sum, Sum], ...]:
        """Return what waits and what runs by rank; nothing where ranks are not told apart."""
        if not (label and waiting and running):
            return ()
        waits, runs = self._of_ranks(waiting[0], label), self._of_ranks(running[0], label)
        return tuple((waits[rank], runs[rank]) for rank in waits if rank in runs)

    def _of_ranks(self, figure: Figure, label: str) -> dict[str, Sum]:
        for one in map(selector, figure.names):
            ranks: dict[str, list[tuple[At, ...]]] = defaultdict(list)
            for group in self._groups(one):
                ranks[self._page[group[0]].labels.get(label, "")].append(group)
            if ranks:
                return {
                    rank: Sum(one.name, tuple(groups), figure.factor)
                    for rank, groups in ranks.items()
                }
        return {}

    def _term(self, figure: Figure, *, is_count: bool) -> Sum | None:
        for one in map(selector, figure.names):
            groups = self._groups(one)
            # A counter that is there for others has counted nothing of these.
            if groups or (is_count and one.name in self._at):
                return Sum(one.name, groups, figure.factor, is_largest=figure.across == "max")
        if figure.zero_beside in self._at:
            return Sum(figure.names[0], (), figure.factor)
        return None

    def _sum(self, names: Iterable[str], factor: float = 1.0) -> Sum | None:
        found = (self._all(one, "", factor) for one in map(selector, names))
        return next((one for one in found if one is not None), None)

    def _all(self, one: Selector, suffix: str, factor: float = 1.0) -> Sum | None:
        groups = self._groups(one, suffix)
        return Sum(f"{one.name}{suffix}", groups, factor) if groups else None

    def _groups(self, wanted: Selector, suffix: str = "") -> tuple[tuple[At, ...], ...]:
        """Return the places of what is wanted; those of copies of one another together."""
        groups: dict[object, list[At]] = defaultdict(list)
        for at in self._at.get(f"{wanted.name}{suffix}", ()):
            labels = self._page[at].labels
            if wanted.admits(labels):
                groups[self._identity(labels)].append(at)
        return tuple(map(tuple, groups.values()))

    def _identity(self, labels: Mapping[str, str]) -> object:
        """Return what two series have in common when one is a copy of the other."""
        return frozenset(one for one in labels.items() if one[0] not in self._copies)

    def _histogram(self, wanted: Selector, factor: float) -> Histogram | None:
        # Triton's documentation shows buckets under the bare name.
        suffix = "_bucket" if f"{wanted.name}_bucket" in self._at else ""
        series: dict[object, dict[float, At]] = defaultdict(dict)
        for at, *_ in self._groups(wanted, suffix):
            labels = dict(self._page[at].labels)
            edge = _edge(labels.pop("le", ""))
            if edge is not None:
                series[self._identity(labels)][edge * factor] = at
        return Histogram.of(wanted.name, series.values())


def _only(page: Sequence[Series], label: str) -> str:
    """Return the one value that a label has on the page; empty when it has several, or none."""
    values = {one.labels[label] for one in page if label in one.labels}
    return values.pop() if len(values) == 1 else ""


def _edge(text: str) -> float | None:
    try:
        edge = float(text)
    except ValueError:
        return None
    return None if math.isnan(edge) else edge
