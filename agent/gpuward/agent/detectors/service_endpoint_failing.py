"""Tell that an endpoint does not answer requests of our own, or that an engine is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.detectors.service_outage import KIND as OUTAGE
from gpuward.agent.detectors.service_outage import is_out
from gpuward.agent.endpoint_state import Standing, endpoints, pages
from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Outcome,
    Result,
    SeriesKey,
    Subject,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.endpoint_state import Endpoint
    from gpuward.agent.window import Window

KIND = Kind(
    name="service.endpoint.failing",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.CAPACITY,
    action=Action.CHECK_APPLICATION,
    meaning="An endpoint of a service does not answer requests of our own.",
    raise_after_s=10.0,
    clear_after_s=30.0,
)
STATUS = "endpoint_status"
OUTCOMES = {
    Standing.FAILING: Outcome.BAD,
    Standing.DOUBTFUL: Outcome.DOUBTFUL,
    Standing.UNKNOWN: Outcome.UNKNOWN,
}


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per endpoint that is not known to answer, and per engine that is missed."""
    asked = endpoints(window)
    addresses = {(it.service, it.address) for it in asked}
    missed = [it for it in pages(window) if it.silence]
    for endpoint in (*asked, *(it for it in missed if (it.service, it.address) not in addresses)):
        if endpoint.standing is not Standing.UP:
            yield _finding(window, endpoint)


def _finding(window: Window, endpoint: Endpoint) -> Finding:
    what = "Gateway" if endpoint.is_gateway else "Replica"
    words = "not asked lately" if endpoint.standing is Standing.UNKNOWN else endpoint.words
    cause = Finding(OUTAGE.name, Subject(service=endpoint.service), "").dedup_key
    return Finding(
        kind=KIND.name,
        subject=Subject(service=endpoint.service, endpoint=endpoint.address),
        summary=f"{what} {endpoint.address} of {endpoint.service}: {words}.",
        outcome=OUTCOMES[endpoint.standing],
        result=Result.WARN,
        since_s=endpoint.since_s,
        evidence=tuple(_evidence(window, endpoint)),
        causes=(cause,) if is_out(window, endpoint.service) else (),
    )


def _evidence(window: Window, endpoint: Endpoint) -> Iterator[Evidence]:
    if endpoint.silence is not None:
        lasts_s, since_s = endpoint.silence.lasts_s, endpoint.since_s
        yield Evidence("silent", lasts_s, "seconds", source="engine", at_s=since_s)
        return
    for name, value in (
        ("failed_own_requests", endpoint.failures),
        ("timed_out_own_requests", endpoint.timed_out),
        ("unreachable_own_requests", endpoint.unreachable),
    ):
        yield Evidence(name, float(value), "1", source="endpoint", at_s=endpoint.since_s)
    key = SeriesKey(STATUS, service=endpoint.service, endpoint=endpoint.address)
    status = window.latest(key)
    if status is not None and endpoint.since_s is not None and status.at_s >= endpoint.since_s:
        yield Evidence("http_status", status.value, "1", source="endpoint", at_s=status.at_s)
