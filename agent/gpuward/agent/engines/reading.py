"""What one look at an engine's page says, in our words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.engine_kv_cache import KvCache
    from gpuward.agent.engines.engine_map import DurationName, FigureName


@dataclass(frozen=True, slots=True)
class Buckets:
    """A cumulative histogram: ``counts[i]`` lasted at most ``edges[i]``; the last edge is +Inf."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]

    def above(self, objective_s: float) -> float | None:
        """Return how many lasted longer than the edge nearest to ``objective_s``, not below it.

        Exact, where a percentile is a guess inside a bucket: it misses only those between objective
        and edge.  ``None`` when the objective lies above the last edge: nothing can be told then.
        """
        edge = self.edge_of(objective_s)
        return None if edge is None else self.counts[-1] - self.counts[self.edges.index(edge)]

    def edge_of(self, objective_s: float) -> float | None:
        """Return the edge nearest to ``objective_s`` that is not below it, if there is one."""
        return next((edge for edge in self.edges[:-1] if edge >= objective_s), None)


@dataclass(frozen=True, slots=True)
class Timing:
    """A duration as an engine counts it: the sum of seconds, how many, and buckets if it has any.

    ``None`` where the page does not say.
    """

    seconds: float | None
    count: float | None
    buckets: Buckets | None = None


@dataclass(frozen=True, slots=True)
class RankQueue:
    """Requests of one data-parallel rank: those that wait, and those that run."""

    waiting: float
    running: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What is on a page; figures and durations that it does not tell are absent."""

    # Whose map it was read by.
    kind: str
    figures: dict[FigureName, float]
    durations: dict[DurationName, Timing]
    started_wall_s: float | None = None
    # Empty when the page names none, or several.
    model: str = ""
    # The same of the model's version.
    model_version: str = ""
    kv_cache: KvCache | None = None
    # Of a server with several ranks, the one at which most wait: a sum hides that it is full.
    longest_queue: RankQueue | None = None
    # Figures that the engine's map has and the page has not.
    missing: tuple[str, ...] = ()
    # What was on the page and cannot be, with its name.
    broken: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the page told nothing that its engine's map knows."""
        return not (self.figures or self.durations or self.broken)

    def judged_at_s(self, objective_s: float) -> float | None:
        """Return the latency beyond which requests are counted as having missed the objective."""
        latency = self.durations.get("latency")
        if latency is None or latency.buckets is None:
            return None
        return latency.buckets.edge_of(objective_s)

    def over(self, objective_s: float) -> float | None:
        """Return how many requests missed the objective; ``None`` where no bucket tells."""
        latency = self.durations.get("latency")
        if latency is None or latency.buckets is None:
            return None
        return latency.buckets.above(objective_s)
