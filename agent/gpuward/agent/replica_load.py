"""What a replica did between two looks at its counters: load, time between tokens, requests.

Pure.  Counters are read together, from one page; a counter that fell says that the engine began
anew.  Means are of a few seconds, because a step in which a prompt is read takes many times longer
than one without, and of enough tokens.  An engine that tells nothing of its prompts or of its KV
cache is not looked at: what its load leaves unexplained was seen to raise a false alarm each day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.detection.liveness import Liveness, liveness
from gpuward.agent.detection.load_regression import Load

if TYPE_CHECKING:
    from gpuward.agent.model import SeriesKey
    from gpuward.agent.window import Window

TOKENS = "replica_inter_tokens_total"
SECONDS = "replica_inter_token_seconds_total"
PROMPT_TOKENS = "replica_prompt_tokens_total"
CACHED_TOKENS = "replica_cached_prompt_tokens_total"
PREEMPTIONS = "replica_preemptions_total"
KV_CACHE = "replica_kv_cache_usage_ratio"

# Engines are asked for their page as often.
PAGE_EVERY_S = 1.0
# A mean of fewer is chance; they are waited for, but not for ever.
LEAST_TOKENS = 50.0
LONGEST_S = 30.0
# Beyond these a page is wrong, or a hang is told as a time between tokens.
MOST_SECONDS = 60.0
MOST_RUNNING = 1e5
MOST_PREFILL_TOKENS = 1e7
MOST_KV_CACHE_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one page, at ``at_s``; 0 where it does not tell."""

    at_s: float
    tokens: float
    seconds: float
    prompt_tokens: float
    cached_tokens: float
    preemptions: float

    def fell(self, before: Counters) -> bool:
        """Return whether any is less than ``before``: only a restart does that."""
        return (
            self.tokens < before.tokens
            or self.seconds < before.seconds
            or self.prompt_tokens < before.prompt_tokens
            or self.preemptions < before.preemptions
        )


@dataclass(frozen=True, slots=True)
class Step:
    """The mean step of a while: its load and ``seconds`` between tokens."""

    load: Load
    seconds: float


def counters_of(window: Window, replica: SeriesKey) -> Counters | None:
    """Return the newest counters of ``replica``; ``None`` when its page is old or tells too few."""
    tokens, seconds, prompt_tokens = (
        window.latest(replica._replace(signal=signal))
        for signal in (TOKENS, SECONDS, PROMPT_TOKENS)
    )
    if tokens is None or seconds is None or prompt_tokens is None:
        return None
    return Counters(
        at_s=tokens.at_s,
        tokens=tokens.value,
        seconds=seconds.value,
        prompt_tokens=prompt_tokens.value,
        cached_tokens=_latest(window, replica, CACHED_TOKENS),
        preemptions=_latest(window, replica, PREEMPTIONS),
    )


def is_silent(window: Window, series: SeriesKey) -> bool:
    """Return whether the page that ``series`` is of was missed so often that it may be down."""
    sample = window.latest(series)
    silent_s = LONGEST_S if sample is None else window.now_s - sample.at_s
    return liveness(silent_s, PAGE_EVERY_S) is not Liveness.ALIVE


def is_enough(before: Counters, now: Counters) -> bool:
    """Return whether what came between is worth a look."""
    return now.tokens - before.tokens >= LEAST_TOKENS or now.at_s - before.at_s > LONGEST_S


def step_between(
    window: Window, replica: SeriesKey, before: Counters, now: Counters
) -> Step | None:
    """Return the mean step; ``None`` when there is none that says how fast the engine is.

    A request that lost its place in the KV cache counts its wait for another as a time between
    tokens: that is a queue, not a slow GPU.
    """
    tokens, passed_s = now.tokens - before.tokens, now.at_s - before.at_s
    # It is not above 0 when a reboot began the clock anew.
    if tokens < LEAST_TOKENS or not 0.0 < passed_s <= 2 * LONGEST_S:
        return None
    kv_cache = window.figures(replica._replace(signal=KV_CACHE), before.at_s)
    if now.preemptions > before.preemptions or now.seconds <= before.seconds or not kv_cache:
        return None
    seconds = (now.seconds - before.seconds) / tokens
    prompt_tokens = now.prompt_tokens - before.prompt_tokens
    cached_tokens = now.cached_tokens - before.cached_tokens
    load = Load(
        # The times between their tokens fill the time that passed as often as requests ran at once
        # (Little's law): exact, where a gauge shows one moment of each second.
        running=(now.seconds - before.seconds) / passed_s,
        prefill_tokens=max(0.0, prompt_tokens - cached_tokens) * seconds / passed_s,
        kv_cache_ratio=sum(kv_cache) / len(kv_cache),
    )
    return Step(load, seconds) if _is_plausible(load, seconds) else None


def _is_plausible(load: Load, seconds: float) -> bool:
    # Said so that what is not a number is not plausible.
    return (
        0.0 < seconds <= MOST_SECONDS
        and 0.0 < load.running <= MOST_RUNNING
        and load.prefill_tokens <= MOST_PREFILL_TOKENS
        and 0.0 <= load.kv_cache_ratio <= MOST_KV_CACHE_RATIO
    )


def _latest(window: Window, replica: SeriesKey, signal: str) -> float:
    sample = window.latest(replica._replace(signal=signal))
    return 0.0 if sample is None else sample.value
