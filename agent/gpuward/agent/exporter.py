"""Serve ``/metrics``, ``/healthz`` and ``/readyz`` from the snapshot.

Nothing here asks the driver, and health is the health of the judge's loop: a driver that hangs is
what this agent is there to report, so it makes neither the agent unhealthy nor a scrape wait.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from gpuward.agent.exposition import CONTENT_TYPE, Exposition
from gpuward.agent.http_server import HttpServer, Response
from gpuward.agent.self_metrics import SelfCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuward.agent.model import Snapshot
    from gpuward.agent.self_metrics import SelfMetric
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
    ) -> None:
        """``is_started``: whether every sampler has had its first turn."""
        self._clock = clock
        self._snapshot = snapshot
        self._is_started = is_started
        self._exposition = Exposition()
        self._registry = CollectorRegistry()
        self._registry.register(SelfCollector(self_metrics))
        ProcessCollector(namespace="gpuward_agent", registry=self._registry)

    def server(self) -> HttpServer:
        """Return a server for the three pages, not listening yet."""
        return HttpServer(
            {"/metrics": self.metrics, "/healthz": self.healthz, "/readyz": self.readyz}
        )

    def metrics(self) -> Response:
        own = generate_latest(self._registry).decode()
        text = self._exposition.text(self._snapshot(), own)
        return Response(text, content_type=CONTENT_TYPE)

    def healthz(self) -> Response:
        late_s = self._clock.mono_s() - self._snapshot().at_s
        if late_s > JUDGE_OVERDUE_S:
            return _unavailable(f"the judge's loop is {late_s:.0f} s late")
        return Response("ok\n")

    def readyz(self) -> Response:
        if not self._is_started():
            return _unavailable("starting: not every sampler has had its first turn")
        return self.healthz()


def _unavailable(why: str) -> Response:
    return Response(f"{why}\n", HTTPStatus.SERVICE_UNAVAILABLE)
