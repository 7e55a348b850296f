"""Tell that all requests to a service fail or hang.

Two witnesses: requests of our own, through the gateway where there is one, as that is the way that
users come; and counters of engines and ingresses, where enough requests come.  The one tells at one
request in a hundred seconds, the other needs no endpoint to be configured.  Requests that end well
speak against an engine's failing endpoint, not against a gateway's: whoever comes by it fails.
Where no requests are sent, engines that are all missed are an outage as well.

An engine that is overloaded does not answer in time either, but tokens come out of it: it is slow,
not out.

Where nobody listens at all, an engine may be being restarted: that is a ticket for four minutes,
and then a page; for a quarter of an hour where nobody has listened since the agent began to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.endpoint_state import GATEWAY, Standing, endpoints_of, pages
from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Outcome,
    Result,
    Subject,
)
from gpuward.agent.remembered import once_a_window
from gpuward.agent.service_traffic import INGRESS_REQUESTS, REQUESTS, Ending, traffic_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.endpoint_state import Endpoint
    from gpuward.agent.service_traffic import Traffic
    from gpuward.agent.window import Window

KIND = Kind(
    name="service.outage",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="All requests to a service fail, or none is answered.",
    raise_after_s=10.0,
    clear_after_s=30.0,
    page_when_failed=True,
)
# Each of them says that there is a service, whether it answers or not.
KNOWN_BY = (GATEWAY, REQUESTS, INGRESS_REQUESTS, "replica_page_failures_total")
# An answer older than that says nothing against what counters say of now.
ANSWER_FRESH_S = 20.0
OUT = frozenset({Ending.ALL_FAIL, Ending.NONE_END})


@dataclass(frozen=True, slots=True)
class Outage:
    """What is known of one service: ``outcome`` is BAD when it is out."""

    service: str
    outcome: Outcome
    # What users come through: the gateways, else the replicas.
    front: tuple[Endpoint, ...]
    traffic: Traffic | None
    since_s: float | None = None

    @property
    def may_restart(self) -> bool:
        """Whether nobody listens anywhere, and nothing else speaks for an outage."""
        by_counters = self.traffic is not None and self.traffic.ending in OUT
        return not by_counters and bool(self.front) and all(it.may_restart for it in self.front)


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per service that is out, or of which too little is known."""
    for outage in outages(window):
        if outage.outcome is Outcome.BAD:
            yield _finding(window, outage)
        else:
            yield Finding(
                kind=KIND.name,
                subject=Subject(service=outage.service),
                summary=f"No request tells whether {outage.service} answers.",
                outcome=outage.outcome,
                result=Result.OK,
            )


@once_a_window
def outages(window: Window) -> tuple[Outage, ...]:
    """Return every service that is out, or of which it is not known that it is not."""
    judged = (_judge(window, service) for service in _services(window))
    return tuple(outage for outage in judged if outage is not None)


def is_out(window: Window, service: str) -> bool:
    """Return whether all requests to ``service`` fail."""
    return any(it.service == service and it.outcome is Outcome.BAD for it in outages(window))


def _services(window: Window) -> list[str]:
    names = [key.service for signal in KNOWN_BY for key in window.keys(signal)]
    names += [totals.service for totals in window.services]
    return list(dict.fromkeys(names))


def _judge(window: Window, service: str) -> Outage | None:
    """Return what is known of ``service``; ``None`` when it answers."""
    known = endpoints_of(window, service)
    front = tuple(it for it in known if it.is_gateway) or known or _missed(window, service)
    traffic = traffic_of(window, service)
    ending = None if traffic is None else traffic.ending
    standings = {it.standing for it in front}
    answered_s = max((it.since_s or 0.0 for it in front if it.standing is Standing.UP), default=0.0)
    fails = standings == {Standing.FAILING}
    if fails and traffic is not None and _is_overloaded(known, traffic):
        return Outage(service, Outcome.DOUBTFUL, front, traffic)
    if fails and (ending is not Ending.WELL or front[0].is_gateway):
        since_s = max(it.since_s or 0.0 for it in front)
        return Outage(service, Outcome.BAD, front, traffic, since_s)
    if ending in OUT and answered_s < window.now_s - ANSWER_FRESH_S:
        return Outage(service, Outcome.BAD, front, traffic)
    if fails or Standing.UP in standings or ending is Ending.WELL:
        return None
    is_blind = traffic is None and standings <= {Standing.UNKNOWN}
    return Outage(service, Outcome.UNKNOWN if is_blind else Outcome.DOUBTFUL, front, traffic)


def _missed(window: Window, service: str) -> tuple[Endpoint, ...]:
    """Return the engines of ``service`` by their pages, when one of them is missed."""
    known = tuple(it for it in pages(window) if it.service == service)
    return known if any(it.silence for it in known) else ()


def _is_overloaded(known: tuple[Endpoint, ...], traffic: Traffic) -> bool:
    """Return whether all is slow, the replicas themselves too, and yet tokens come."""
    is_replica_asked = any(not it.is_gateway for it in known)
    return traffic.tokens > 0 and is_replica_asked and all(it.is_slow for it in known)


def _finding(window: Window, outage: Outage) -> Finding:
    lasted_s = window.now_s - (window.now_s if outage.since_s is None else outage.since_s)
    is_young = outage.may_restart and lasted_s < max(it.restarted_within_s for it in outage.front)
    return Finding(
        kind=KIND.name,
        subject=Subject(service=outage.service),
        summary=f"{outage.service} is out: {_words(outage)}.",
        result=Result.WARN if is_young else Result.FAIL,
        since_s=outage.since_s,
        evidence=tuple(_evidence(outage)),
    )


def _words(outage: Outage) -> str:
    if outage.traffic is not None and outage.traffic.ending in OUT:
        return f"of the requests that users send {outage.traffic.ending.value}"
    return ", ".join(f"{it.address}: {it.words}" for it in outage.front)


def _evidence(outage: Outage) -> Iterator[Evidence]:
    for endpoint in outage.front:
        if endpoint.silence is not None:
            yield Evidence(
                "silent",
                endpoint.silence.lasts_s,
                "seconds",
                text=f"{endpoint.address}: {endpoint.words}",
                source="engine",
                at_s=endpoint.since_s,
            )
        elif endpoint.standing is Standing.FAILING:
            yield Evidence(
                "failed_own_requests",
                float(endpoint.failures),
                "1",
                text=f"{endpoint.address}: {endpoint.words}",
                source="endpoint",
                at_s=endpoint.since_s,
            )
    if outage.traffic is not None:
        for name, value in (
            ("requests_ended", outage.traffic.ended),
            ("requests_failed", outage.traffic.failed),
            ("requests_inside", outage.traffic.inside),
        ):
            yield Evidence(name, value, "1", source="counters")
