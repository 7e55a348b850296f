"""What the agent's own requests, and engines' pages, say of the endpoints of a service.  Pure.

One request that fails is a mishap, two in a row are a failure, and one that is answered well ends
it.  An endpoint of which there is no fresh answer is unknown, never well: it is known to be watched
by the sample that says which role it has.  An engine that is missed (``replica_silence``) fails
too, where no request of our own says more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gpuward.agent.model import SeriesKey
from gpuward.agent.remembered import once_a_window
from gpuward.agent.replica_silence import RESTARTED_WITHIN_S, Silence, silence_of

if TYPE_CHECKING:
    from gpuward.agent.window import Window

UP = "endpoint_up"
GATEWAY = "endpoint_gateway"
TIMED_OUT = "endpoint_probes_timed_out_total"
UNREACHABLE = "endpoint_probes_unreachable_total"
READY = "replica_ready"

KEPT_S = 300.0
# In a row.
FAILURES = 2


class Standing(Enum):
    """How an endpoint is."""

    UP = "up"
    # The last request failed, the one before did not.
    DOUBTFUL = "doubtful"
    FAILING = "failing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint, and what its last requests met."""

    service: str
    address: str
    is_gateway: bool
    standing: Standing
    # When the last request was answered; of one that is failing, when the first failed.
    since_s: float | None = None
    # Requests in a row that failed, and those of them that nobody listened to.
    failures: int = 0
    unreachable: int = 0
    # Of them, those that were not answered in time.
    timed_out: int = 0
    # Of an engine that is missed.
    silence: Silence | None = None

    @property
    def may_restart(self) -> bool:
        """Whether nobody has listened at all, as when an engine is started anew."""
        return self.standing is Standing.FAILING and self.unreachable >= self.failures

    @property
    def restarted_within_s(self) -> float:
        """How long after ``since_s`` it may be that it is only being restarted."""
        return RESTARTED_WITHIN_S if self.silence is None else self.silence.certain_after_s

    @property
    def is_slow(self) -> bool:
        """Whether nothing else is wrong with it than that answers do not come in time."""
        return self.failures > 0 and self.timed_out >= self.failures

    @property
    def words(self) -> str:
        """Return what requests met, for a sentence."""
        if self.silence is not None:
            return self.silence.words
        if self.may_restart:
            return "nobody listens there"
        if self.is_slow:
            return "requests are not answered in time"
        return "requests fail"


@once_a_window
def endpoints(window: Window) -> tuple[Endpoint, ...]:
    """Return every endpoint that requests of our own are sent to, in order of first sight."""
    return tuple(_or_missed(window, _endpoint(window, key)) for key in window.keys(GATEWAY))


@once_a_window
def pages(window: Window) -> tuple[Endpoint, ...]:
    """Return every engine as its page alone has it: up when it says that it is ready."""
    return tuple(_by_page(window, key) for key in window.keys(READY))


def endpoints_of(window: Window, service: str) -> tuple[Endpoint, ...]:
    """Return those of one service."""
    return tuple(it for it in endpoints(window) if it.service == service)


def _or_missed(window: Window, endpoint: Endpoint) -> Endpoint:
    if endpoint.standing is not Standing.UNKNOWN or endpoint.is_gateway:
        return endpoint
    known = (it for it in pages(window) if it.silence and it.address == endpoint.address)
    return next((it for it in known if it.service == endpoint.service), endpoint)


def _by_page(window: Window, ready: SeriesKey) -> Endpoint:
    about = (ready.service, ready.endpoint, False)
    silence = silence_of(window, ready.service, ready.endpoint)
    if silence is not None:
        since_s = window.now_s - silence.lasts_s
        return Endpoint(*about, Standing.FAILING, since_s, silence=silence)
    is_ready = window.latest(ready)
    return Endpoint(*about, Standing.UP if is_ready and is_ready.value > 0 else Standing.UNKNOWN)


def _endpoint(window: Window, role: SeriesKey) -> Endpoint:
    service, address = role.service, role.endpoint
    gateway = window.latest(role)
    is_gateway = gateway is not None and gateway.value > 0
    key = SeriesKey(UP, service=service, endpoint=address)
    if window.latest(key) is None:
        return Endpoint(service, address, is_gateway, Standing.UNKNOWN)
    answers = window.values(key, window.now_s - KEPT_S)
    failed = []
    for answer in reversed(answers):
        if answer.value > 0:
            break
        failed.append(answer.at_s)
    if not failed:
        return Endpoint(service, address, is_gateway, Standing.UP, answers[-1].at_s)
    count = len(failed)
    return Endpoint(
        service,
        address,
        is_gateway,
        Standing.FAILING if count >= FAILURES else Standing.DOUBTFUL,
        since_s=failed[-1],
        failures=count,
        unreachable=_counted(window, role, UNREACHABLE, failed[-1]),
        timed_out=_counted(window, role, TIMED_OUT, failed[-1]),
    )


def _counted(window: Window, role: SeriesKey, signal: str, since_s: float) -> int:
    """Return how many of the requests that were over at ``since_s`` or later a counter counted."""
    key = SeriesKey(signal, service=role.service, endpoint=role.endpoint)
    kept = window.figures(key, window.now_s - KEPT_S)
    recent = window.figures(key, since_s)
    if not recent:
        return 0
    if len(kept) > len(recent):
        return int(recent[-1] - kept[-len(recent) - 1])
    # What was counted before is not kept: the first of them is taken to be as the others.
    rise = int(recent[-1] - recent[0])
    return rise + int(rise == len(recent) - 1 and recent[-1] > 0)
