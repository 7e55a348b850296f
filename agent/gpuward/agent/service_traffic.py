"""Whether the requests of users end well, by what engines and ingresses count.  Pure.

Counters tell of an outage in two ways: nearly all requests that end do so in an error, or none end
any more although requests are there.  The second means something only where many should have ended:
one request may take minutes.  Where few requests come, counters tell nothing, and the agent's own
requests must.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gpuward.agent.model import SeriesKey
from gpuward.agent.remembered import once_a_window

if TYPE_CHECKING:
    from gpuward.agent.window import Window

REQUESTS = "service_requests_total"
FAILED = "service_requests_failed_total"
TOKENS = "service_tokens_total"
WAITING = "service_requests_waiting"
RUNNING = "service_requests_running"
PROMPT_TOKENS = "replica_prompt_tokens_total"
INGRESS_REQUESTS = "ingress_requests_total"
INGRESS_FAILED = "ingress_requests_failed_total"

RECENT_S = 20.0
# Fewer say nothing of the next one.
LEAST_REQUESTS = 10.0
FAILED_RATIO = 0.95
STILL_S = 30.0
# Room for a scrape that was late.
COVERED_S = 25.0
KEPT_S = 300.0


class Ending(Enum):
    """How requests end now."""

    WELL = "some end well"
    ALL_FAIL = "nearly all end in an error"
    NONE_END = "none ends, though requests are there"
    # Too few to tell.
    UNTOLD = "too few to tell"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of the last twenty seconds that ended, and how they do."""

    ending: Ending
    ended: float = 0.0
    failed: float = 0.0
    # Requests that are there now: running, or waiting.
    inside: float = 0.0
    # Output tokens of the last twenty seconds.
    tokens: float = 0.0


@once_a_window
def traffic_of(window: Window, service: str) -> Traffic | None:
    """Return how the requests of ``service`` end; ``None`` where no counter is fresh."""
    since_s = window.now_s - RECENT_S
    ended, failed = _risen(window, service, since_s)
    is_counted = window.latest(SeriesKey(REQUESTS, service=service)) is not None
    if not is_counted and not _ingresses(window, service):
        return None
    inside = _latest(window, service, RUNNING) + _latest(window, service, WAITING)
    if failed < FAILED_RATIO * ended:
        ending = Ending.WELL
    elif ended >= LEAST_REQUESTS:
        ending = Ending.ALL_FAIL
    elif is_counted and _stands_still(window, service):
        ending = Ending.NONE_END
    else:
        ending = Ending.UNTOLD
    tokens = window.risen(SeriesKey(TOKENS, service=service), since_s)
    return Traffic(ending, ended, failed, inside, tokens)


def _risen(window: Window, service: str, since_s: float) -> tuple[float, float]:
    """Return how many requests ended since, and how many of them in an error.

    Of a request that passes an ingress both tell, the ingress also of one that no engine saw.
    """
    ended = window.risen(SeriesKey(REQUESTS, service=service), since_s)
    failed = window.risen(SeriesKey(FAILED, service=service), since_s)
    for key in _ingresses(window, service):
        ended += window.risen(key, since_s)
        failed += window.risen(key._replace(signal=INGRESS_FAILED), since_s)
    return ended, failed


def _ingresses(window: Window, service: str) -> list[SeriesKey]:
    return [key for key in window.keys(INGRESS_REQUESTS) if key.service == service]


def _latest(window: Window, service: str, signal: str) -> float:
    newest = window.latest(SeriesKey(signal, service=service))
    return 0.0 if newest is None else newest.value


def _stands_still(window: Window, service: str) -> bool:
    """Return whether half a minute brought nothing where it used to bring many requests."""
    since_s = window.now_s - STILL_S
    requests = SeriesKey(REQUESTS, service=service)
    before = window.risen(requests, window.now_s - KEPT_S) - window.risen(requests, since_s)
    expected = before * STILL_S / (KEPT_S - STILL_S)
    moved = window.risen(requests, since_s) + window.risen(
        requests._replace(signal=TOKENS), since_s
    )
    moved += sum(
        window.risen(key, since_s) for key in window.keys(PROMPT_TOKENS) if key.service == service
    )
    return not moved and expected >= LEAST_REQUESTS and _is_busy(window, service, since_s)


def _is_busy(window: Window, service: str, since_s: float) -> bool:
    """Return whether there were requests all the time since."""
    running = window.values(SeriesKey(RUNNING, service=service), since_s)
    waiting = window.values(SeriesKey(WAITING, service=service), since_s)
    inside = {sample.at_s: sample.value for sample in running}
    for sample in waiting:
        inside[sample.at_s] = inside.get(sample.at_s, 0.0) + sample.value
    return bool(inside) and min(inside) <= window.now_s - COVERED_S and min(inside.values()) > 0
