"""Serve ``/metrics``, ``/conditions``, ``/healthz`` and ``/readyz`` from the snapshot.

Nothing here asks the driver, and health is the health of the judge's loop: a driver that hangs is
what this agent is there to report, so it makes neither the agent unhealthy nor a scrape wait.
"""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector

from gpuward.agent.conditions import TYPES, conditions
from gpuward.agent.exposition import Exposition
from gpuward.agent.exposition_format import CLASSIC, OPEN
from gpuward.agent.http_message import JSON, Response
from gpuward.agent.http_server import HttpServer
from gpuward.agent.negotiation import prefers_openmetrics
from gpuward.agent.self_metrics import SelfCollector, SelfMetric
from gpuward.agent.web_guard import WebGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client.registry import Collector

    from gpuward.agent.http_message import Request
    from gpuward.agent.model import Snapshot
    from gpuward.daemon.clock import Clock

# Ticks come every second; a loop that missed ten is not judging.
JUDGE_OVERDUE_S = 10.0


class Exporter:
    """The pages of the agent's HTTP server."""

    def __init__(
        self,
        *,
        clock: Clock,
        snapshot: Callable[[], Snapshot],
        is_started: Callable[[], bool],
        self_metrics: Sequence[SelfMetric],
        collectors: Sequence[Collector] = (),
        child_pid: Callable[[], int | None] = lambda: None,
    ) -> None:
        """``is_started``: whether every sampler has had its first turn; ``child_pid``: NVML's."""
        self._clock = clock
        self._snapshot = snapshot
        self._is_started = is_started
        # One for each format: what it keeps of a page is of no use to the other.
        self._expositions = {each: Exposition(each) for each in (CLASSIC, OPEN)}
        self._server = HttpServer(
            {
                "/metrics": self.metrics,
                "/conditions": self.conditions,
                "/healthz": self.healthz,
                "/readyz": self.readyz,
            }
        )
        self._registry = CollectorRegistry()
        for collector in collectors:
            self._registry.register(collector)
        self._registry.register(SelfCollector((*self._own_metrics(), *self_metrics)))
        ProcessCollector(namespace="gpuward_agent", registry=self._registry)
        # A process that is not there has no series.
        ProcessCollector(
            namespace="gpuward_nvml_child",
            pid=lambda: child_pid() or "none",
            registry=self._registry,
        )

    def server(self, web_config: str = "") -> HttpServer:
        """Return the server of these pages, not listening yet.

        ``web_config``: path of the file that says who may ask; raises ``ConfigError``.
        """
        self._server.guard = WebGuard(Path(web_config)) if web_config else None
        return self._server

    def metrics(self, request: Request) -> Response:
        page_format = OPEN if prefers_openmetrics(request.headers.get("accept", "")) else CLASSIC
        own = page_format.ending(self._registry).decode()
        text = self._expositions[page_format].text(self._snapshot(), own)
        return Response(text, content_type=page_format.content_type)

    def conditions(self, request: Request) -> Response:
        """Return all as JSON; of one ``?type=``, status and message, each on a line."""
        found = conditions(self._snapshot(), is_judging=self._late_s() <= JUDGE_OVERDUE_S)
        asked_for = parse_qs(request.query).get("type", [""])[0]
        if not asked_for:
            body = msgspec.json.encode({"conditions": [asdict(each) for each in found]})
            return Response(body.decode() + "\n", content_type=JSON)
        for condition in found:
            if condition.type == asked_for:
                return Response(f"{condition.status}\n{condition.reason}: {condition.message}\n")
        return Response(f"no such condition; there are {', '.join(TYPES)}\n", HTTPStatus.NOT_FOUND)

    def healthz(self, _: Request) -> Response:
        if self._late_s() > JUDGE_OVERDUE_S:
            return _unavailable(f"the judge's loop is {self._late_s():.0f} s late")
        return Response("ok\n")

    def readyz(self, request: Request) -> Response:
        if not self._is_started():
            return _unavailable("starting: not every sampler has had its first turn")
        return self.healthz(request)

    def _late_s(self) -> float:
        return self._clock.mono_s() - self._snapshot().at_s

    def _own_metrics(self) -> tuple[SelfMetric, ...]:
        return (
            SelfMetric("snapshot_age_seconds", "Since the judgement that is shown.", self._late_s),
            SelfMetric(
                "http_refused_total",
                "Connections turned away because too many were open.",
                lambda: self._server.refused,
            ),
        )


def _unavailable(why: str) -> Response:
    return Response(f"{why}\n", HTTPStatus.SERVICE_UNAVAILABLE)
