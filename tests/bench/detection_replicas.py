"""Replicas to detect on: the engine simulator's and one made otherwise, healthy or slowed down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from detection_roofline import RooflineEngine

from gpuward.agent.engines.percentile import RecentPercentile
from gpuward.agent.engines.reading import Buckets
from gpuward.simulator.llm.canonical import signals
from gpuward.simulator.llm.engine import LlmEngine
from gpuward.simulator.llm.faults import Fault, Trouble
from gpuward.simulator.llm.platforms import PLATFORMS
from gpuward.simulator.llm.traffic import Demand, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.simulator.llm.metrics import Histogram

OBJECTIVE_S = 60.0


class Replica(Protocol):
    """What both have in common."""

    def advance(self, until_s: float) -> None: ...

    def signals(self) -> dict[str, float]: ...

    def percentiles(self, now_s: float) -> dict[str, float]:
        """Return 95th percentiles of five minutes, where it has buckets."""
        ...


@dataclass(frozen=True, slots=True)
class Slowness:
    """From ``onset_s`` on steps take ``by`` times as long, or ``a_minute`` more each minute."""

    name: str
    onset_s: float = math.inf
    by: float = 1.0
    a_minute: float = 0.0

    def factor(self, now_s: float) -> float:
        if now_s < self.onset_s:
            return 1.0
        return self.by * (1.0 + self.a_minute * (now_s - self.onset_s) / 60.0)


HEALTHY = Slowness("healthy")


class Simulated:
    """The engine simulator: an 8B model on an H100, with its noise, pauses and talks."""

    def __init__(
        self,
        seed: int,
        slowness: Slowness = HEALTHY,
        *,
        platform: str = "h100-llama-8b",
        requests_per_second: float = 6.0,
    ) -> None:
        faults = [Fault(Trouble.SLOWER, slowness.by, slowness.onset_s)]
        faults += [Fault(Trouble.DRIFT, slowness.a_minute, slowness.onset_s)]
        demand = Demand(requests_per_second, swing=0.5, begins_at_s=3_600.0 * (seed * 5 % 24))
        self._engine = LlmEngine(
            PLATFORMS[platform],
            Traffic(demand, seed),
            faults=[] if slowness is HEALTHY else faults,
            seed=seed,
        )
        self._percentiles = {"inter_token": RecentPercentile(), "e2e": RecentPercentile()}

    def advance(self, until_s: float) -> None:
        self._engine.advance(until_s)

    def signals(self) -> dict[str, float]:
        return signals(self._engine, OBJECTIVE_S)

    def percentiles(self, now_s: float) -> dict[str, float]:
        found = {}
        for name, recent in self._percentiles.items():
            histogram: Histogram = getattr(self._engine.metrics, name)
            value = recent.note(now_s, _buckets(histogram))
            if value is not None:
                found[name] = value.seconds
        return found


class Roofline:
    """The other one; see ``detection_roofline``."""

    def __init__(
        self, seed: int, slowness: Slowness = HEALTHY, *, requests_per_second: float = 5.0
    ) -> None:
        factor: Callable[[float], float] | None = None
        if slowness is not HEALTHY:
            factor = slowness.factor
        begins_at_s = 3_600.0 * (seed * 5 % 24)
        self._engine = RooflineEngine(
            seed, requests_per_second, begins_at_s=begins_at_s, slow_down=factor
        )

    def advance(self, until_s: float) -> None:
        self._engine.advance(until_s)

    def signals(self) -> dict[str, float]:
        return self._engine.counters

    def percentiles(self, now_s: float) -> dict[str, float]:
        del now_s
        return {}


def _buckets(histogram: Histogram) -> Buckets:
    counts, total = [], 0.0
    for count in histogram.counts:
        total += count
        counts.append(total)
    return Buckets((*histogram.bounds, math.inf), tuple(counts))
