"""How the services on a GPU fare: do requests wait, are they slow, does anything come out?

Half of what saturation is; the other half is ``saturation``.  What counts is the queue of the
replica that runs on the GPU: a balancer that keeps a conversation where its cache is lets hundreds
wait at one replica while its siblings have room, and those do not wait for the siblings' GPUs.
A replica on several GPUs is told for each of them, because its requests pass through all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.model import SeriesKey
from gpuward.agent.remembered import once_a_window

if TYPE_CHECKING:
    from gpuward.agent.window import Window

WAITING = "requests_waiting"
RUNNING = "requests_running"
TOKENS = "tokens_total"
REQUESTS = "requests_total"
OVER_OBJECTIVE = "requests_over_objective_total"

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
    served = {(p.service, p.endpoint) for p in window.processes if p.service and gpu in p.gpus}
    loads = [load for each in sorted(served) if (load := _of_replica(window, *each)) is not None]
    return max(loads, key=lambda load: (load.is_bad, load.waiting), default=None)


@once_a_window
def _of_replica(window: Window, service: str, endpoint: str) -> ServiceLoad | None:
    """Return the load of one replica; of its share of the service while it has no name."""
    waiting_key = _key(WAITING, service, endpoint)
    waiting = window.figures(waiting_key, window.now_s - RECENT_S)
    if not waiting or window.latest(waiting_key) is None:
        return None
    running = window.latest(_key(RUNNING, service, endpoint))
    return ServiceLoad(
        service=service,
        waiting=median(waiting) / (1 if endpoint else _sharers(window, service)),
        running=None if running is None else running.value,
        tokens_per_second=_rate(window, _key(TOKENS, service, endpoint)),
        over_objective_ratio=_over_objective(window, service, endpoint),
    )


def _key(figure: str, service: str, endpoint: str) -> SeriesKey:
    scope = "replica" if endpoint else "service"
    return SeriesKey(f"{scope}_{figure}", service=service, endpoint=endpoint)


def _sharers(window: Window, service: str) -> int:
    """Return how many share a queue: instances that are not ready take no requests."""
    ready = sum(totals.service == service and totals.ready for totals in window.services)
    return max(1, ready)


def _rate(window: Window, key: SeriesKey) -> float | None:
    if window.latest(key) is None:
        return None
    return window.risen(key, window.now_s - RECENT_S) / RECENT_S


def _over_objective(window: Window, service: str, endpoint: str) -> float | None:
    since_s = window.now_s - JUDGED_S
    finished = window.risen(_key(REQUESTS, service, endpoint), since_s)
    if finished < LEAST_REQUESTS:
        return None
    return window.risen(_key(OVER_OBJECTIVE, service, endpoint), since_s) / finished
