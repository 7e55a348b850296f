"""Note an upstream that takes twice as long as it usually does.

It is the answer to "why is it slow" when no GPU is, and no trouble of this node: it is stored.
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
from gpuward.agent.upstream_state import upstreams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.upstream_state import Upstream
    from gpuward.agent.window import Window

KIND = Kind(
    name="service.upstream.slow",
    default_class=FindingClass.STORE,
    domain=CauseDomain.NETWORK,
    action=Action.NONE,
    meaning="Something that inference waits for takes twice as long as it usually does.",
    raise_after_s=20.0,
    clear_after_s=60.0,
)
SLOW = 2.0
CLEAR = 1.5
# Of a connection that takes a millisecond, twice as long is nothing that anybody waits for.
LEAST_EXCESS_S = 0.02


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per upstream that is slow, or of which it cannot be said."""
    for upstream in upstreams(window):
        outcome = _outcome(upstream)
        if outcome is not None:
            yield Finding(
                kind=KIND.name,
                subject=Subject(endpoint=upstream.name),
                summary=f"Upstream {upstream.name} is slower than usual.",
                outcome=outcome,
                result=Result.WARN if outcome is Outcome.BAD else Result.OK,
                evidence=tuple(_evidence(upstream)),
            )


def _outcome(upstream: Upstream) -> Outcome | None:
    """Return how slow it is; ``None``: it is not."""
    if not upstream.is_known:
        return Outcome.UNKNOWN
    pairs = [(recent, usual) for _, recent, usual in _measures(upstream)]
    if any(_is_above(recent, usual, SLOW) for recent, usual in pairs):
        return Outcome.BAD
    if any(_is_above(recent, usual, CLEAR) for recent, usual in pairs) or not pairs:
        # Also while nothing can be compared: that proves nothing.
        return Outcome.DOUBTFUL
    return None


def _measures(upstream: Upstream) -> Iterator[tuple[str, float, float]]:
    """Yield what can be compared: what, now, and usually."""
    for name, recent, usual in (
        ("own_requests", upstream.probe_seconds, upstream.probe_usual_seconds),
        ("callers_requests", upstream.latency_seconds, upstream.latency_usual_seconds),
    ):
        if recent is not None and usual is not None:
            yield name, recent, usual


def _is_above(recent: float, usual: float, ratio: float) -> bool:
    return recent >= ratio * usual and recent - usual >= LEAST_EXCESS_S


def _evidence(upstream: Upstream) -> Iterator[Evidence]:
    for name, recent, usual in _measures(upstream):
        yield Evidence(name, recent, "seconds", threshold=SLOW * usual, source="upstream")
        yield Evidence(f"usual_{name}", usual, "seconds", source="upstream")
