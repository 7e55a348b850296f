"""Evidence in what the engine says of its requests: how fast, how many wait, what they bring."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import sqrt
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
    PROMPTS,
    arrivals,
    prompt_tokens,
)

if TYPE_CHECKING:
    from gpuward.agent.diagnosis.case import Case

MINUTE_S = 60.0
# Of the requests that can run at once; the last places are seldom filled at every look.
FULL_BATCH_RATIO = 0.95
MOSTLY_RATIO = 0.8
LONGER_RATIO = 1.3
PROMPTS_S = 120.0
# Prompts differ by two orders of magnitude: their deviation is taken for 1.5 times their mean, and
# what is off by five deviations of a mean for no chance.
SPREAD, CHANCES = 1.5, 5.0
UNSURE = 0.7
MORE_RATIO = 1.25
# Steps take up to a second; a minute without a token, with requests inside, is a stand-still.
STOPPED_S = 15.0
RESTARTED_S = 300.0

_slow = told(latency_inter_token.detect, needs="replica_inter_token_evidence_ratio", hint=True)
objective = told(latency_objective.detect, needs="replica_objective_burn_ratio")
errors = told(service_errors.detect, needs="replica_requests_failed_usual_ratio")
outage = told(service_outage.detect, needs="replica_requests_total")
queue = told(latency_queue.detect, needs="replica_requests_waiting", hint=True)


def slow(case: Case) -> Seen:
    """Look whether tokens come slower than they did at such a load."""
    seen, expected = _slow(case), case.latest("replica_inter_token_expected_seconds")
    return replace(seen, limit=expected.value) if seen.is_present and expected else seen


def batch_full(case: Case) -> Seen:
    """Look whether as many requests run as can.

    vLLM's page does not tell how many that are; but a number that is never passed, and mostly
    reached while others wait, is a limit.
    """
    told_limit = case.latest("replica_requests_limit")
    running = case.figures("replica_requests_running", MINUTE_S)
    if not running:
        return UNKNOWN
    limit = max(running) if told_limit is None else told_limit.value
    full = sum(each >= FULL_BATCH_RATIO * limit for each in running) / len(running)
    if told_limit is None:
        waiting = case.figures("replica_requests_waiting", MINUTE_S)
        some_wait = bool(waiting) and sum(each > 0 for each in waiting) >= len(waiting) / 2
        if full < MOSTLY_RATIO or not some_wait:
            return UNKNOWN
    there = presence(is_there=full >= MOSTLY_RATIO)
    return Seen(there, median(running), "1", limit, source="engine", window_s=MINUTE_S)


def arrivals_up(case: Case) -> Seen:
    """Look whether more requests come than usual."""
    now, usual = arrivals(case.window, case.key(""), MINUTE_S), case.latest(ARRIVALS_USUAL)
    if now is None or usual is None:
        return UNKNOWN
    return _against_usual(case, now, usual.value, MORE_RATIO, unit="1/s", for_s=MINUTE_S)


def prompts_longer(case: Case) -> Seen:
    """Look whether prompts are longer than usual; it is certain where chance is out of question."""
    now = prompt_tokens(case.window, case.key(""), PROMPTS_S)
    usual, count = case.latest(PROMPT_TOKENS_USUAL), case.risen(PROMPTS, PROMPTS_S)
    if now is None or usual is None or not count:
        return UNKNOWN
    seen = _against_usual(case, now, usual.value, LONGER_RATIO, unit="1", for_s=PROMPTS_S)
    sure = 1.0 + CHANCES * SPREAD / sqrt(count)
    return replace(seen, strength=1.0 if now >= sure * usual.value else UNSURE)


def _against_usual(
    case: Case, now: float, usual: float, ratio: float, *, unit: str, for_s: float
) -> Seen:
    return Seen(
        presence(is_there=now >= ratio * usual),
        now,
        unit,
        usual,
        text="usual: the median minute of an hour",
        source="engine",
        at_s=case.window.now_s,
        window_s=for_s,
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
