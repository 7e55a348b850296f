"""Evidence in what the engine says of its requests: how fast, how many wait, what they bring."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.detectors import (
    latency_inter_token,
    latency_objective,
    latency_queue,
    service_errors,
    service_outage,
)
from gpuward.agent.diagnosis.seen import UNKNOWN, Seen, presence
from gpuward.agent.diagnosis.told import told
from gpuward.agent.replica_demand import (
    ARRIVALS_USUAL,
    PROMPT_TOKENS_USUAL,
    arrivals,
    prompt_tokens,
)

if TYPE_CHECKING:
    from gpuward.agent.diagnosis.case import Case

MINUTE_S = 60.0
# Of the requests that can run at once; the last places are seldom filled at every look.
FULL_BATCH_RATIO = 0.95
# Prompts differ by two orders of magnitude, so that the mean of a minute's differs by a tenth.
LONGER_RATIO = 1.3
MORE_RATIO = 1.25
# Steps take up to a second; a minute without a token, with requests inside, is a stand-still.
STOPPED_S = 15.0
RESTARTED_S = 300.0

_slow = told(latency_inter_token.detect, needs="replica_inter_token_evidence_ratio")
objective = told(latency_objective.detect, needs="replica_objective_burn_ratio")
errors = told(service_errors.detect, needs="replica_requests_failed_usual_ratio")
outage = told(service_outage.detect, needs="replica_requests_total")
queue = told(latency_queue.detect, needs="replica_requests_waiting")


def slow(case: Case) -> Seen:
    """Look whether tokens come slower than they did at such a load."""
    seen, expected = _slow(case), case.latest("replica_inter_token_expected_seconds")
    return replace(seen, limit=expected.value) if seen.is_present and expected else seen


def batch_full(case: Case) -> Seen:
    """Look whether as many requests run as can.

    vLLM's page does not tell how many that are; but a number that stays the same for a minute,
    while others wait, is a limit.
    """
    told_limit = case.latest("replica_requests_limit")
    running = case.figures("replica_requests_running", MINUTE_S)
    waiting = case.figures("replica_requests_waiting", MINUTE_S)
    if not running or (told_limit is None and not waiting):
        return UNKNOWN
    value, most = median(running), max(running)
    limit = most if told_limit is None else told_limit.value
    is_full = value >= FULL_BATCH_RATIO * limit
    if told_limit is None and not (min(waiting) > 0 and min(running) >= FULL_BATCH_RATIO * most):
        return UNKNOWN
    return Seen(presence(is_there=is_full), value, "1", limit, source="engine", window_s=MINUTE_S)


def arrivals_up(case: Case) -> Seen:
    """Look whether more requests come than usual."""
    return _against_usual(
        case, arrivals(case.window, case.key(""), MINUTE_S), ARRIVALS_USUAL, MORE_RATIO, "1/s"
    )


def prompts_longer(case: Case) -> Seen:
    """Look whether prompts are longer than usual."""
    return _against_usual(
        case,
        prompt_tokens(case.window, case.key(""), MINUTE_S),
        PROMPT_TOKENS_USUAL,
        LONGER_RATIO,
        "1",
    )


def _against_usual(case: Case, now: float | None, usual: str, ratio: float, unit: str) -> Seen:
    known = case.latest(usual)
    if now is None or known is None:
        return UNKNOWN
    return Seen(
        presence(is_there=now >= ratio * known.value),
        now,
        unit,
        known.value,
        text="usual: the median minute of an hour",
        source="engine",
        at_s=case.window.now_s,
        window_s=MINUTE_S,
    )


def tokens_stopped(case: Case) -> Seen:
    """Look whether requests run and nothing comes out."""
    running = case.figures("replica_requests_running", STOPPED_S)
    tokens = case.risen("replica_tokens_total", STOPPED_S)
    if not running or tokens is None:
        return UNKNOWN
    return Seen(
        presence(is_there=min(running) > 0 and tokens == 0),
        tokens,
        "1",
        source="engine",
        at_s=case.window.now_s,
        window_s=STOPPED_S,
    )


def restarted(case: Case) -> Seen:
    """Look whether the replica has begun to count anew."""
    values = case.figures("replica_requests_total", RESTARTED_S)
    if not values:
        return UNKNOWN
    fell = any(later < before for before, later in pairwise(values))
    return Seen(presence(is_there=fell), values[-1], "1", source="engine", window_s=RESTARTED_S)
