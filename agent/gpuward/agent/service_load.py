"""How the services on a GPU fare: do requests wait, are they slow, does anything come out?

Half of what saturation is; the other half is ``saturation``.  A service that runs on several GPUs
is told for each of them, because its requests pass through all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.model import SeriesKey
from gpuward.agent.remembered import once_a_window

if TYPE_CHECKING:
    from gpuward.agent.window import Window

WAITING = "service_requests_waiting"
RUNNING = "service_requests_running"
TOKENS = "service_tokens_total"
REQUESTS = "service_requests_total"
OVER_OBJECTIVE = "service_requests_over_objective_total"

RECENT_S = 30.0
# Over-objective shares of fewer requests are chance.
JUDGED_S = 60.0
LEAST_REQUESTS = 10
# Kubernetes' inference extension calls an endpoint saturated beyond this queue.
QUEUE = 5.0
SLOW_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """Of the worst service on a GPU; ``None`` where its page does not tell."""

    service: str
    waiting: float
    running: float | None
    tokens_per_second: float | None
    over_objective_ratio: float | None

    @property
    def is_queueing(self) -> bool:
        return self.waiting > QUEUE

    @property
    def is_bad(self) -> bool:
        return self.is_queueing or (self.over_objective_ratio or 0.0) >= SLOW_RATIO


@once_a_window
def service_load(window: Window, gpu: str) -> ServiceLoad | None:
    """Return the load of the service on ``gpu`` that fares worst; ``None`` when none is known."""
    names = {p.service for p in window.processes if p.service and gpu in p.gpus}
    loads = [load for name in sorted(names) if (load := _of_service(window, name)) is not None]
    return max(loads, key=lambda load: (load.is_bad, load.waiting), default=None)


@once_a_window
def _of_service(window: Window, service: str) -> ServiceLoad | None:
    waiting = window.figures(SeriesKey(WAITING, service=service), window.now_s - RECENT_S)
    if not waiting or window.latest(SeriesKey(WAITING, service=service)) is None:
        return None
    # Instances that are not ready take no requests, so theirs wait with the others.
    instances = sum(totals.service == service and totals.ready for totals in window.services)
    running = window.latest(SeriesKey(RUNNING, service=service))
    return ServiceLoad(
        service=service,
        waiting=median(waiting) / max(1, instances),
        running=None if running is None else running.value,
        tokens_per_second=_rate(window, SeriesKey(TOKENS, service=service)),
        over_objective_ratio=_over_objective(window, service),
    )


def _rate(window: Window, key: SeriesKey) -> float | None:
    if window.latest(key) is None:
        return None
    return window.risen(key, window.now_s - RECENT_S) / RECENT_S


def _over_objective(window: Window, service: str) -> float | None:
    since_s = window.now_s - JUDGED_S
    finished = window.risen(SeriesKey(REQUESTS, service=service), since_s)
    if finished < LEAST_REQUESTS:
        return None
    return window.risen(SeriesKey(OVER_OBJECTIVE, service=service), since_s) / finished
