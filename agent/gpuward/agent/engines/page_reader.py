"""Read an engine's page by its map, again and again.

A page keeps its layout for as long as the engine runs, so what is to be added to what is worked out
once for a layout (``layout.py``); after that a page costs its lines and a few sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent import engine_kv_cache
from gpuward.agent.engines.engine_map import WITH_PERCENTILE
from gpuward.agent.engines.layout import Layout
from gpuward.agent.engines.selector import selector
from gpuward.agent.openmetrics import PageParser, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.engines.engine_map import EngineMap
    from gpuward.agent.engines.reading import Reading
    from gpuward.agent.openmetrics import Series

# A server whose series come and go has so many times those of its page remembered, at most.
OFTEN = 4
FEW = 256


class PageReader:
    """Reads the pages of one engine, whose names are those of ``engine_map``.

    ``model``: of a page that tells of several, the one that counts; empty: all of them.
    """

    def __init__(self, kind: str, engine_map: EngineMap, model: str = "") -> None:
        self.engine_map = engine_map
        self._kind = kind
        self._model = model
        self.names = frozenset(_names(engine_map))
        self._parser = PageParser(self.names, self._place_of)
        # Every wanted series that was ever on the page, by its place.
        self._series: list[Series] = []
        self._places: dict[tuple[str, frozenset[tuple[str, str]]], int] = {}
        self._laid_out: list[int] = []
        self._layout: Layout | None = None

    def read(self, text: str) -> Reading:
        """Return what the page says; raises ``ParseError``."""
        places, values = self._parser.read(text)
        if self._layout is None or places != self._laid_out:
            self._layout = self._lay_out(text, places)
            self._laid_out = places
        return self._layout.read(values)

    def _lay_out(self, text: str, places: list[int]) -> Layout:
        if len(set(places)) < len(places):
            twice = next(place for at, place in enumerate(places) if place in places[:at])
            raise ParseError(f"{self._series[twice].name} is there twice with the same labels")
        if len(self._series) > FEW + OFTEN * len(places):
            self._forget()
            return self._lay_out(text, self._parser.read(text)[0])
        return Layout(self._kind, self.engine_map, [self._series[place] for place in places])

    def _forget(self) -> None:
        self._parser.forget()
        self._series.clear()
        self._places.clear()

    def _place_of(self, series: Series) -> int | None:
        label = self.engine_map.model_label
        if self._model and series.labels.get(label, self._model) != self._model:
            return None
        key = (series.name, frozenset(series.labels.items()))
        if key not in self._places:
            self._places[key] = len(self._series)
            self._series.append(series)
        return self._places[key]


def _names(engine_map: EngineMap) -> Iterator[str]:
    """Yield the names of all samples that the map needs."""
    yield from engine_map.started
    if engine_map.kv_cache_info:
        yield from (engine_map.kv_cache_info, *engine_kv_cache.USAGE)
    for terms in engine_map.figures.values():
        for term in terms:
            yield from (selector(name).name for name in term.names)
            yield term.zero_beside
    for duration_name, duration in engine_map.durations.items():
        for name in (*duration.sum, *duration.count):
            yield selector(name).name
        for name in duration.histogram:
            histogram = selector(name).name
            yield from (f"{histogram}_sum", f"{histogram}_count")
            if duration_name in WITH_PERCENTILE:
                yield from (f"{histogram}_bucket", histogram)
