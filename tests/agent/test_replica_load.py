"""What a replica did between two looks at its counters."""

from __future__ import annotations

import pytest

from gpuward.agent.model import Sample, SeriesKey
from gpuward.agent.replica_load import counters_of, is_enough, step_between
from gpuward.agent.window import Window

REPLICA = SeriesKey("", service="chat", endpoint="127.0.0.1:8000")
TOKENS, SECONDS = "replica_inter_tokens_total", "replica_inter_token_seconds_total"
PROMPT, CACHED = "replica_prompt_tokens_total", "replica_cached_prompt_tokens_total"
PREEMPTIONS, KV_CACHE = "replica_preemptions_total", "replica_kv_cache_usage_ratio"
BEFORE = {TOKENS: 10_000, SECONDS: 100, PROMPT: 5_000, CACHED: 1_000}
BEFORE |= {PREEMPTIONS: 3, KV_CACHE: 0.2}
# In five seconds 5,000 tokens of 10 ms each: ten requests at once.
AFTER = {TOKENS: 15_000, SECONDS: 150, PROMPT: 8_000, CACHED: 2_000}
AFTER |= {PREEMPTIONS: 3, KV_CACHE: 0.2}


def window(after, *, now_s=1_005.0, before=BEFORE):
    samples = [
        Sample(REPLICA._replace(signal=signal), at_s, float(value))
        for at_s, values in ((1_000.0, before), (now_s, after))
        for signal, value in values.items()
    ]
    return Window.of(samples, now_s=now_s)


def step(after, *, before=BEFORE, now_s=1_005.0):
    then = counters_of(window(before, now_s=1_000.0, before={}), REPLICA)
    seen = window(after, now_s=now_s, before=before)
    return step_between(seen, REPLICA, then, counters_of(seen, REPLICA))


def test_a_step_of_the_mean():
    """500 steps, each of ten tokens and of 2,000 / 500 tokens of prompts that were not cached."""
    found = step(AFTER)

    assert found.seconds == pytest.approx(0.01)
    assert found.load.running == pytest.approx(10.0)
    assert found.load.prefill_tokens == pytest.approx(4.0)
    assert found.load.kv_cache_ratio == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("after", "is_known"),
    [
        pytest.param(AFTER, True, id="plenty"),
        pytest.param(AFTER | {TOKENS: 10_050}, True, id="just enough tokens"),
        pytest.param(AFTER | {TOKENS: 10_049}, False, id="one too few"),
        pytest.param(AFTER | {PREEMPTIONS: 4}, False, id="one lost its place in the cache"),
        pytest.param(AFTER | {SECONDS: 100}, False, id="no time passed between tokens"),
        pytest.param(AFTER | {SECONDS: 100 + 3e5}, True, id="a minute a token"),
        pytest.param(AFTER | {SECONDS: 100 + 3.1e5}, False, id="longer: they hang"),
        pytest.param(AFTER | {TOKENS: 1e12, SECONDS: 1e10}, False, id="no machine is so large"),
        pytest.param(AFTER | {PROMPT: 1e13}, False, id="nor reads so fast"),
        pytest.param(AFTER | {KV_CACHE: 1.0}, True, id="a full cache"),
        pytest.param(AFTER | {KV_CACHE: 97.0}, False, id="no share at all"),
        pytest.param(AFTER | {CACHED: 9_000}, True, id="more cached than read as yet"),
    ],
)
def test_what_says_how_fast_an_engine_is(after, is_known):
    assert is_known == (step(after) is not None)


def test_what_is_cached_is_not_computed():
    """Counted when it is found, a prompt when it is read: never less than none."""
    assert step(AFTER | {CACHED: 9_000}).load.prefill_tokens == 0.0


@pytest.mark.parametrize("missing", [TOKENS, SECONDS, PROMPT])
def test_without_these_nothing_is_told(missing):
    """Of tokens, or of the prompts that are read beside them."""
    known = {signal: value for signal, value in AFTER.items() if signal != missing}

    assert counters_of(window(known, before={}), REPLICA) is None


def test_without_the_cache_there_is_no_load():
    before = {signal: value for signal, value in BEFORE.items() if signal != KV_CACHE}
    after = {signal: value for signal, value in AFTER.items() if signal != KV_CACHE}

    assert step(after, before=before) is None


def test_what_else_a_page_does_not_tell_is_none():
    """No prefix cache, no preemptions."""
    after = {s: v for s, v in AFTER.items() if s not in (CACHED, PREEMPTIONS)}
    before = {s: v for s, v in BEFORE.items() if s not in (CACHED, PREEMPTIONS)}

    assert step(after, before=before).load.prefill_tokens == pytest.approx(6.0)


def test_after_a_long_silence_nothing_is_told():
    """Nobody knows which part of the last minutes the mean is of."""
    assert step(AFTER, now_s=1_000.0) is None
    assert step(AFTER, now_s=1_060.0) is not None
    assert step(AFTER, now_s=1_060.5) is None


@pytest.mark.parametrize(
    ("tokens", "now_s", "expected"),
    [
        pytest.param(10_050, 1_005.0, True, id="fifty tokens"),
        pytest.param(10_049, 1_005.0, False, id="fewer: wait"),
        pytest.param(10_049, 1_031.0, True, id="fewer, for half a minute"),
        pytest.param(10_049, 1_030.0, False, id="almost so long"),
    ],
)
def test_is_enough(tokens, now_s, expected):
    before = counters_of(window(BEFORE, now_s=1_000.0, before={}), REPLICA)
    now = counters_of(window(AFTER | {TOKENS: tokens}, now_s=now_s), REPLICA)

    assert expected is is_enough(before, now)


@pytest.mark.parametrize("signal", [TOKENS, SECONDS, PROMPT, PREEMPTIONS])
def test_any_counter_that_fell_is_a_restart(signal):
    before = counters_of(window(AFTER, before={}), REPLICA)
    now = counters_of(window(AFTER | {signal: 0}, before={}), REPLICA)

    assert now.fell(before)
    assert not before.fell(before)
