"""What comes to a replica: how many requests a second, and how many tokens each brings.

Pure functions of a window; ``key`` is any series of the replica.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.model import SeriesKey
    from gpuward.agent.window import Window

REQUESTS = "replica_requests_total"
WAITING = "replica_requests_waiting"
RUNNING = "replica_requests_running"
PROMPTS = "replica_prompts_total"
PROMPT_TOKENS = "replica_prompt_tokens_total"
# What was usual of both: see ``samplers.usual``.
PROMPT_TOKENS_USUAL = "replica_prompt_tokens_usual"
ARRIVALS_USUAL = "replica_arrivals_usual_per_second"

# The mean of fewer prompts is chance: their lengths are spread over two orders of magnitude.
LEAST_PROMPTS = 20


def prompt_tokens(window: Window, key: SeriesKey, for_s: float) -> float | None:
    """Return the mean length of a prompt in the last ``for_s``, tokens; ``None``: too few came.

    Those found in the prefix cache count too: a full KV cache loses them, and that is no request's
    doing.
    """
    since_s = window.now_s - for_s
    prompts = window.risen(key._replace(signal=PROMPTS), since_s)
    if prompts < LEAST_PROMPTS:
        return None
    return window.risen(key._replace(signal=PROMPT_TOKENS), since_s) / prompts


def arrivals(window: Window, key: SeriesKey, for_s: float) -> float | None:
    """Return how many requests a second came in the last ``for_s``; ``None`` when nobody counted.

    What came has finished, waits or runs: under overload the finished alone only show the capacity.
    """
    since_s = window.now_s - for_s
    requests = key._replace(signal=REQUESTS)
    if window.latest(requests) is None:
        return None
    samples = window.values(requests, since_s)
    span_s = samples[-1].at_s - samples[0].at_s
    if span_s < for_s / 2:
        return None
    inside = [window.figures(key._replace(signal=signal), since_s) for signal in (WAITING, RUNNING)]
    grown = sum(figures[-1] - figures[0] for figures in inside if figures)
    return max(0.0, window.risen(requests, since_s) + grown) / span_s
