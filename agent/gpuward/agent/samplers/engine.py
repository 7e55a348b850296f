"""Sample the traffic of inference engines from their own metrics pages.

What users feel is in the engine's counters only: requests finished, failed, refused, slower than
the objective.  ``ServiceTotals`` carries them as they are, cumulative, with the time that they
count from; the coordinator subtracts.  An engine that does not answer stays for a minute with its
last counters and ``ready`` false, so that its going is seen; then it is no longer an instance.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import Meta

from gpuward.agent import engine_vllm
from gpuward.agent.http_get import HttpClient, HttpError
from gpuward.agent.model import Batch, ComponentHealth, Result, Sample, SeriesKey
from gpuward.agent.openmetrics import ParseError, parse
from gpuward.agent.service_totals import ServiceTotals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.engine_vllm import Traffic
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

PAGE = "/metrics"
ACCEPT = "text/plain;version=0.0.4"
KNOWN_S = 60.0
# How long an engine that said it is ready is believed, while its page is read.
READY_FOR_S = 5.0
HTTP_OK = 200


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An engine to watch: the ``[[engines]]`` table of the agent's configuration."""

    service: Annotated[
        str, Meta(description="What users call; engines of one service are judged together.")
    ]
    url: Annotated[
        str,
        Meta(description="`http://host:port` where it serves /metrics and /health."),
    ]
    kind: Annotated[Literal["vllm"], Meta(description="Whose names its metrics have.")] = "vllm"
    objective_s: Annotated[
        float,
        Meta(description="Seconds from end to end beyond which a request misses the objective."),
    ] = 10.0
    timeout_s: Annotated[float, Meta(description="Seconds that the engine has to answer.")] = 2.0

    def __post_init__(self) -> None:
        if not self.service:
            raise ValueError("service is empty; name what users call")
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"url {self.url!r} is not http://host:port of an engine on this node")
        if self.objective_s <= 0 or self.timeout_s <= 0:
            raise ValueError("objective_s and timeout_s must be above 0")

    @property
    def instance(self) -> str:
        """What tells this engine from others of its service."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last good scrape of an engine."""

    traffic: Traffic
    started_wall_s: float
    at_s: float
    wall_s: float
    # When it last said that it is ready; None when it said that it is not.
    ready_s: float | None


class EngineSampler:
    """Scrapes the engines of one node, all at once; instances of a service are summed."""

    name = "engine"
    period_s = 1.0

    def __init__(self, engines: Sequence[EngineConfig], clock: Clock) -> None:
        self._engines = tuple(engines)
        self._clients = tuple(HttpClient(engine.url) for engine in engines)
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._trouble: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    @property
    def health(self) -> ComponentHealth:
        """Unknown while an engine's page cannot be read, with the reason."""
        reasons = "; ".join(reason for reason in self._trouble.values() if reason)
        return ComponentHealth(self.name, Result.UNKNOWN if reasons else Result.OK, reasons)

    def traffic_of(self, engine: EngineConfig) -> tuple[float, Traffic] | None:
        """Return when the engine's page was read last, and what it said."""
        seen = self._seen.get(engine.instance)
        return None if seen is None else (seen.at_s, seen.traffic)

    async def sample(self, now_s: float) -> Batch:
        """Return totals of every engine seen within a minute, and sums by service."""
        async with asyncio.TaskGroup() as group:
            for engine, client in zip(self._engines, self._clients, strict=True):
                group.create_task(self._look(engine, client, now_s))
        services = tuple(self._totals(now_s))
        return Batch(samples=tuple(self._samples(now_s)), services=services)

    async def _look(self, engine: EngineConfig, client: HttpClient, now_s: float) -> None:
        try:
            traffic = await _page(engine, client)
            ready_s = await self._ready_s(engine, client, now_s)
        except (HttpError, ParseError) as error:
            self._say(engine, f"{engine.instance}: {error}")
        else:
            self._say(engine, "")
            self._note(engine, traffic, now_s, ready_s)

    async def _ready_s(
        self, engine: EngineConfig, client: HttpClient, now_s: float
    ) -> float | None:
        """Return when the engine last said that it is ready; ``None`` when it says it is not.

        A page that was just read is evidence enough for a while, and a request costs as much as
        the page does.
        """
        seen = self._seen.get(engine.instance)
        if seen and seen.ready_s is not None and now_s - seen.ready_s < READY_FOR_S:
            return seen.ready_s
        return now_s if await _is_ready(engine, client) else None

    def _note(
        self, engine: EngineConfig, traffic: Traffic, now_s: float, ready_s: float | None
    ) -> None:
        wall_s = self._clock.wall_s()
        before = self._seen.get(engine.instance)
        started_s = traffic.started_wall_s
        if started_s is None:
            # Some servers do not say: then they count from when we first looked.
            started_s = before.started_wall_s if before else wall_s
        if before and _went_back(before.traffic, traffic) and started_s <= before.started_wall_s:
            started_s = wall_s
        self._seen[engine.instance] = _Seen(traffic, started_s, now_s, wall_s, ready_s)

    def _totals(self, now_s: float) -> Iterator[ServiceTotals]:
        for engine in self._engines:
            seen = self._seen.get(engine.instance)
            if seen is None or now_s - seen.at_s > KNOWN_S:
                continue
            traffic = seen.traffic
            yield ServiceTotals(
                service=engine.service,
                instance=engine.instance,
                started_wall_s=seen.started_wall_s,
                observed_wall_s=seen.wall_s,
                requests=traffic.requests,
                failed=traffic.failed,
                timed_out=0,
                over_objective=traffic.over_objective or 0,
                tokens=traffic.tokens or 0,
                ready=seen.ready_s is not None and seen.at_s == now_s,
                waiting=traffic.waiting or 0,
                running=traffic.running or 0,
            )

    def _samples(self, now_s: float) -> Iterator[Sample]:
        """Yield sums over the instances of each service that answered.

        An instance that is silent this turn keeps its counters in the sum: a sum that falls would
        read as a restart.
        """
        sums: dict[SeriesKey, float] = {}
        answered = set()
        for engine in self._engines:
            seen = self._seen.get(engine.instance)
            if seen is None or now_s - seen.at_s > KNOWN_S:
                continue
            is_fresh = seen.at_s == now_s
            if is_fresh:
                answered.add(engine.service)
            for signal, value in _signals(seen.traffic):
                if is_fresh or signal.endswith("_total"):
                    key = SeriesKey(signal, service=engine.service)
                    sums[key] = sums.get(key, 0.0) + value
        for key, value in sums.items():
            if key.service in answered:
                yield Sample(key, now_s, value)

    def _say(self, engine: EngineConfig, trouble: str) -> None:
        before = self._trouble.get(engine.instance, "")
        if bool(trouble) != bool(before):
            if trouble:
                log.warning("engine.unreachable", service=engine.service, reason=trouble)
            else:
                log.info("engine.answered", service=engine.service, instance=engine.instance)
        self._trouble[engine.instance] = trouble


async def _page(engine: EngineConfig, client: HttpClient) -> Traffic:
    url = f"{engine.url.rstrip('/')}{PAGE}"
    answer = await client.get(PAGE, timeout_s=engine.timeout_s, accept=ACCEPT)
    if answer.status != HTTP_OK:
        raise HttpError(f"{url}: status {answer.status}")
    text = answer.body.decode("utf-8", errors="replace")
    traffic = engine_vllm.read(parse(text, prefixes=engine_vllm.PREFIXES), engine.objective_s)
    if traffic is None:
        raise HttpError(f"{url}: no {engine_vllm.FINISHED[0]}: not a vLLM server")
    return traffic


async def _is_ready(engine: EngineConfig, client: HttpClient) -> bool:
    try:
        answer = await client.get("/health", timeout_s=engine.timeout_s)
    except HttpError:
        return False
    return answer.status == HTTP_OK


def _went_back(before: Traffic, after: Traffic) -> bool:
    """Return whether a counter fell, which only a restart of the server does."""
    return after.requests < before.requests or after.failed < before.failed


def _signals(traffic: Traffic) -> Iterator[tuple[str, float]]:
    yield "service_requests_total", float(traffic.requests)
    yield "service_requests_failed_total", float(traffic.failed)
    optional = (
        ("service_requests_over_objective_total", traffic.over_objective),
        ("service_tokens_total", traffic.tokens),
        ("service_requests_waiting", traffic.waiting),
        ("service_requests_running", traffic.running),
    )
    yield from ((signal, float(value)) for signal, value in optional if value is not None)
