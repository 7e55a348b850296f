"""Tell that something that inference waits for does not answer: a vector database, a provider.

No GPU is at fault and no restart of an engine helps, so it is said apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from gpuward.agent.upstream_state import LEAST_REQUESTS, upstreams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.upstream_state import Upstream
    from gpuward.agent.window import Window

KIND = Kind(
    name="service.upstream.down",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.NETWORK,
    action=Action.CHECK_APPLICATION,
    meaning="Something that inference waits for does not answer, or fails half of its requests.",
    raise_after_s=10.0,
    clear_after_s=60.0,
)
FAILURES = 2
FAILED_RATIO = 0.5


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per upstream that does not answer, or of which nothing fresh is known."""
    for upstream in upstreams(window):
        outcome = _outcome(upstream)
        if outcome is not None:
            yield _finding(upstream, outcome)


def _outcome(upstream: Upstream) -> Outcome | None:
    if not upstream.is_known:
        return Outcome.UNKNOWN
    failures, ended = upstream.failures, upstream.requests or 0.0
    if failures is not None and failures >= FAILURES:
        return Outcome.BAD
    if ended >= LEAST_REQUESTS and upstream.failed >= FAILED_RATIO * ended:
        return Outcome.BAD
    # Too few requests to tell end no finding that more of them raised.
    is_told = failures == 0 or ended >= LEAST_REQUESTS
    return None if is_told else Outcome.DOUBTFUL


def _finding(upstream: Upstream, outcome: Outcome) -> Finding:
    is_silent = bool(upstream.failures)
    words = "does not answer" if is_silent else "fails requests"
    return Finding(
        kind=KIND.name,
        subject=Subject(endpoint=upstream.name),
        summary=f"Upstream {upstream.name} {words}.",
        outcome=outcome,
        result=Result.WARN if outcome is Outcome.BAD else Result.OK,
        since_s=upstream.since_s,
        evidence=tuple(_evidence(upstream)),
    )


def _evidence(upstream: Upstream) -> Iterator[Evidence]:
    if upstream.failures is not None:
        yield Evidence("failed_own_requests", float(upstream.failures), "1", source="upstream")
    if upstream.requests is not None:
        for name, value in (
            ("requests_ended", upstream.requests),
            ("requests_failed", upstream.failed),
            ("requests_throttled", upstream.throttled),
        ):
            yield Evidence(name, value, "1", source="callers")
