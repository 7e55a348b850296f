"""Evidence in what inference waits for: vector databases, feature stores, model providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.detectors import service_upstream_down, service_upstream_slow
from gpuward.agent.diagnosis.seen import UNKNOWN, Seen, presence, worst
from gpuward.agent.diagnosis.told import told
from gpuward.agent.upstream_state import LEAST_REQUESTS, RECENT_S, upstreams

if TYPE_CHECKING:
    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.upstream_state import Upstream

# One in a hundred is a client that asked too fast; more is a quota that is used up.
REFUSED_RATIO = 0.05

_slow = told(service_upstream_slow.detect)
_down = told(service_upstream_down.detect)


def slow(case: Case) -> Seen:
    """Look whether an upstream takes longer than usual; unknown where none is named."""
    return _slow(case) if upstreams(case.window) else UNKNOWN


def down(case: Case) -> Seen:
    """Look whether an upstream does not answer, or fails its requests."""
    return _down(case) if upstreams(case.window) else UNKNOWN


def refuses(case: Case) -> Seen:
    """Look whether an upstream refuses requests as too many: status 429."""
    return worst(_refuses(upstream, case) for upstream in upstreams(case.window))


def _refuses(upstream: Upstream, case: Case) -> Seen:
    count = upstream.requests
    if count is None or count < LEAST_REQUESTS:
        return UNKNOWN
    ratio = upstream.throttled / count
    return Seen(
        presence(is_there=ratio >= REFUSED_RATIO),
        ratio,
        "ratio",
        REFUSED_RATIO,
        source="upstream",
        at_s=case.window.now_s,
        window_s=RECENT_S,
        upstream=upstream.name,
    )
