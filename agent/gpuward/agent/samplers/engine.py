"""Sample the traffic of inference engines from their own metrics pages.

What users feel is in the engine's counters only: requests finished, failed, refused, slower than
the objective.  ``ServiceTotals`` carries them as they are, cumulative, with the time that they
count from; the coordinator subtracts.  An engine that does not answer stays for a minute with its
last counters and ``ready`` false, so that its going is seen; then it is no longer an instance.

Beside the sums of a service, each engine is told of as a replica (``engine_replica``); engines are
those configured, and those found (``engine_discovery``).  Four pages a second cost 1 ms of CPU.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from gpuward.agent.model import Batch, ComponentHealth, Result, Sample, SeriesKey
from gpuward.agent.samplers.engine_builds import EngineBuilds
from gpuward.agent.samplers.engine_replica import Replica
from gpuward.agent.service_totals import ServiceTotals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gpuward.agent.engine_config import EngineConfig
    from gpuward.agent.engines.reading import Reading
    from gpuward.agent.samplers.engine_discovery import EngineDiscovery
    from gpuward.agent.samplers.engine_replica import Seen
    from gpuward.daemon.clock import Clock

KNOWN_S = 60.0
# What is summed over the replicas of a service.
SUMMED = (
    ("service_requests_total", "requests_total"),
    ("service_requests_failed_total", "requests_failed_total"),
    ("service_requests_timed_out_total", "requests_timed_out_total"),
    ("service_tokens_total", "tokens_total"),
    ("service_requests_waiting", "requests_waiting"),
    ("service_requests_running", "requests_running"),
)


class EngineSampler:
    """Scrapes the engines of one node, all at once; instances of a service are summed too."""

    name = "engine"
    period_s = 1.0

    def __init__(
        self,
        engines: Sequence[EngineConfig],
        clock: Clock,
        discovery: EngineDiscovery | None = None,
        *,
        is_maintained: Callable[[], bool] = lambda: False,
        builds: Path | None = None,
    ) -> None:
        """``is_maintained``: engines are stopped now, and nobody waits for them.

        ``builds``: the file in which what services run is remembered.
        """
        self._configured = tuple(engines)
        self._clock = clock
        self._discovery = discovery
        self._is_maintained = is_maintained
        self._builds = EngineBuilds(builds)
        # One server may be several services, each a model of it.
        self._replicas = {_name(engine): Replica(engine, clock) for engine in engines}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for replica in self._replicas.values():
            replica.close()
        self._builds.close()

    @property
    def health(self) -> ComponentHealth:
        """Unknown while an engine's page cannot be read, with the reason."""
        reasons = "; ".join(one.trouble for one in self._replicas.values() if one.trouble)
        return ComponentHealth(self.name, Result.UNKNOWN if reasons else Result.OK, reasons)

    @property
    def engines(self) -> tuple[EngineConfig, ...]:
        """The engines that are watched: those configured, and those found."""
        return tuple(replica.engine for replica in self._replicas.values())

    def reading_of(self, engine: EngineConfig) -> tuple[float, Reading] | None:
        """Return when the engine's page was read last, and what it said."""
        replica = self._replicas.get(_name(engine))
        seen = replica.seen if replica else None
        return None if seen is None else (seen.at_s, seen.reading)

    async def sample(self, now_s: float) -> Batch:
        """Return totals of every engine seen within a minute, its series, and sums by service."""
        if self._discovery is not None:
            self._watch((*self._configured, *await self._discovery.engines(now_s)))
        if self._is_maintained():
            for replica in self._replicas.values():
                replica.excuse(now_s)
        async with asyncio.TaskGroup() as group:
            for replica in self._replicas.values():
                group.create_task(replica.look(now_s))
        own = (sample for replica in self._replicas.values() for sample in replica.samples(now_s))
        known = tuple(self._known(now_s))
        self._builds.follow(replica for replica, _ in known if replica.is_answering)
        return Batch(
            samples=(*own, *_sums(known, now_s)),
            services=tuple(self._totals(replica, seen) for replica, seen in known),
        )

    def _totals(self, replica: Replica, seen: Seen) -> ServiceTotals:
        build, running = replica.build, self._builds.running(replica)
        totals = replace(_counted(replica, seen), model=build.model, version=build.version)
        if running is None:
            return totals
        return replace(
            totals,
            previous_model=running.before.model,
            previous_version=running.before.version,
            changed_wall_s=running.changed_wall_s,
        )

    def _watch(self, engines: Sequence[EngineConfig]) -> None:
        wanted = {_name(engine): engine for engine in engines}
        for name in self._replicas.keys() - wanted.keys():
            self._replicas.pop(name).close()
        for name in wanted.keys() - self._replicas.keys():
            self._replicas[name] = Replica(wanted[name], self._clock)

    def _known(self, now_s: float) -> Iterator[tuple[Replica, Seen]]:
        for replica in self._replicas.values():
            seen = replica.seen
            if seen is not None and now_s - seen.at_s <= KNOWN_S:
                yield replica, seen


def _name(engine: EngineConfig) -> tuple[str, str]:
    return engine.service, engine.instance


def _counted(replica: Replica, seen: Seen) -> ServiceTotals:
    engine, figures = replica.engine, seen.reading.figures
    return ServiceTotals(
        service=engine.service,
        instance=engine.instance,
        started_wall_s=seen.started_wall_s,
        observed_wall_s=seen.wall_s,
        requests=int(figures.get("requests_total", 0)),
        failed=int(figures.get("requests_failed_total", 0)),
        timed_out=int(figures.get("requests_timed_out_total", 0)),
        over_objective=int(seen.reading.over(engine.objective_s) or 0),
        tokens=int(figures.get("tokens_total", 0)),
        ready=replica.is_ready,
        waiting=int(figures.get("requests_waiting", 0)),
        running=int(figures.get("requests_running", 0)),
    )


def _sums(known: Sequence[tuple[Replica, Seen]], now_s: float) -> Iterator[Sample]:
    """Yield sums over the instances of each service that answered.

    An instance that is silent this turn keeps its counters in the sum: a sum that falls would
    read as a restart.
    """
    sums: dict[SeriesKey, float] = {}
    for replica, seen in known:
        for signal, value in _summed(replica, seen):
            if replica.is_answering or signal.endswith("_total"):
                key = SeriesKey(signal, service=replica.engine.service)
                sums[key] = sums.get(key, 0.0) + value
    answered = {replica.engine.service for replica, _ in known if replica.is_answering}
    return (Sample(key, now_s, value) for key, value in sums.items() if key.service in answered)


def _summed(replica: Replica, seen: Seen) -> Iterator[tuple[str, float]]:
    figures = seen.reading.figures
    yield from ((signal, figures[name]) for signal, name in SUMMED if name in figures)
    over = seen.reading.over(replica.engine.objective_s)
    if over is not None:
        yield "service_requests_over_objective_total", over
