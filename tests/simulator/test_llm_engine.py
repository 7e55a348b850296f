"""The engine in virtual time: what it may hold, what it counts, and what each fault does to it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuward.simulator.llm.engine import LlmEngine
from gpuward.simulator.llm.faults import Fault, Trouble
from gpuward.simulator.llm.page import render
from gpuward.simulator.llm.platforms import PLATFORMS, Platform, StepLaw
from gpuward.simulator.llm.request import FinishedReason, Request
from gpuward.simulator.llm.scheduler import Scheduler
from gpuward.simulator.llm.traffic import Demand, Traffic

H100 = PLATFORMS["h100-llama-8b"]
LAW = StepLaw(fixed_s=0.01, token_s=1e-5, sequence_s=0.0, context_s=0.0)
SMALL = Platform(
    "small", LAW, kv_blocks=64, max_num_seqs=8, max_num_batched_tokens=64, max_model_len=512
)


class Given:
    """Requests that come at the times given, and no more after them."""

    faster = longer = wordier = 1.0

    def __init__(self, *due):
        self._due = list(due)
        self.taken = []

    @property
    def next_s(self):
        return self._due[0][0] if self._due else math.inf

    def take(self):
        at_s, prompt, answer = self._due.pop(0)
        number = len(self.taken) + 1
        self.taken.append(Request(number, at_s, prompt, answer, talk=number))
        return self.taken[-1]


def lived(per_second=3.0, seconds=600.0, *faults, platform=H100, seed=1):
    engine = LlmEngine(platform, Traffic(Demand(per_second), seed), faults=faults, seed=seed)
    engine.advance(seconds)
    return engine


def counts(engine):
    """Return everything that the page shows."""
    return render(engine.metrics)


# The scheduler.


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 200)), min_size=1, max_size=40),
    every=st.integers(1, 5),
)
def test_no_step_breaks_a_limit_and_everybody_ends(sizes, every):
    """Token budget, places and blocks are kept in every step, and nobody starves.

    Blocks in use are those of the sequences that run; at the end all are free again, and each
    request has exactly the tokens that it asked for, however often it was put back.
    """
    scheduler = Scheduler(SMALL)
    requests = [Request(n, 0.0, prompt, answer, n) for n, (prompt, answer) in enumerate(sizes)]
    coming, ended = list(requests), []
    for turn in range(60_000):
        if coming and turn % every == 0:
            scheduler.waiting.append(coming.pop(0))
        plan = scheduler.plan()
        assert plan.tokens <= SMALL.max_num_batched_tokens
        assert len(scheduler.running) <= SMALL.max_num_seqs
        assert 0 <= scheduler.cache.used <= SMALL.kv_blocks
        ended += scheduler.finish(plan)[1]
        if len(ended) == len(requests):
            break

    assert set(ended) == set(requests)
    assert [answer for _, answer in sizes] == [request.generated for request in requests]
    assert scheduler.cache.used == scheduler.decoding == 0


def test_decoding_goes_before_prompts():
    """A long prompt is read in chunks beside a sequence that decodes, and does not stop it."""
    scheduler = Scheduler(SMALL)
    short, long = Request(1, 0.0, 8, 100, 1), Request(2, 0.0, 400, 4, 2)
    scheduler.waiting.append(short)
    scheduler.finish(scheduler.plan())
    scheduler.waiting.append(long)

    plans = []
    for _ in range(8):
        plans.append(scheduler.plan())
        scheduler.finish(plans[-1])

    assert [1] * 7 == [plan.decoding for plan in plans[:7]]
    assert [63, 63, 63, 63, 63, 63, 22] == [plan.prompt_tokens for plan in plans[:7]]
    assert 2 == plans[7].decoding


def test_the_youngest_is_put_back_and_computed_anew():
    """Two sequences that outgrow the cache: the one that came last gives way, and still ends."""
    scheduler = Scheduler(SMALL)
    first, last = Request(1, 0.0, 400, 180, 1), Request(2, 0.0, 400, 180, 2)
    scheduler.waiting += [first, last]
    put_back, ended = [], []
    for _ in range(1_000):
        plan = scheduler.plan()
        put_back += [request for request, _ in plan.preempted]
        ended += scheduler.finish(plan)[1]

    assert {last} == set(put_back)
    assert [first, last] == ended


# What it counts.


def test_what_is_counted_adds_up():
    """Tokens by the requests that had them, a time between any two of one request, no one left.

    So also where sequences are put back for want of room.
    """
    due = [(0.05 * n, 20 + 7 * n % 200, 5 + 11 * n % 120) for n in range(300)]
    engine = LlmEngine(SMALL, Given(*due), seed=3)
    engine.advance(3_000.0)

    metrics, answers = engine.metrics, [answer for _, _, answer in due]
    assert 300 == sum(metrics.finished.values()) == metrics.e2e.count == metrics.queue.count
    assert sum(answers) == metrics.generation_tokens
    assert sum(answers) - 300 == metrics.inter_token.count
    assert sum(prompt for _, prompt, _ in due) == metrics.prompt_tokens
    assert metrics.preemptions > 0
    assert (0, 0, 0.0) == (metrics.running, metrics.waiting, metrics.kv_cache_usage)
    parts = metrics.queue.sum + metrics.prefill.sum + metrics.decode.sum
    assert metrics.e2e.sum == pytest.approx(parts)
    assert metrics.e2e.sum - metrics.first_token.sum == pytest.approx(metrics.inter_token.sum)


def test_the_same_seed_is_the_same_life():
    """However time is cut, and in another process as here; another seed is another life."""
    whole, parts = lived(), LlmEngine(H100, Traffic(Demand(3.0), 1), seed=1)
    for tenth in range(1, 6_001):
        parts.advance(tenth / 10)

    assert counts(whole) == counts(parts)
    assert counts(whole) != counts(lived(seed=2))


def test_a_request_alone_takes_what_the_law_says():
    """1,000 tokens of prompt in one step, 100 more steps: noise of 2.5 % averages out."""
    engine = LlmEngine(H100, Given((1.0, 1_000, 101)), seed=4)
    engine.advance(60.0)

    law, taken = H100.law, engine.metrics
    first_s = law.fixed_s + 1_000 * law.token_s + law.sequence_s
    next_s = law.fixed_s + law.token_s + law.sequence_s + 1_050 * law.context_s
    assert taken.first_token.sum == pytest.approx(first_s, rel=0.1)
    # A pause of the interpreter may fall into it.
    assert taken.inter_token.sum / 100 == pytest.approx(next_s, rel=0.1)


def test_talks_that_go_on_find_their_beginning_in_the_cache():
    """None without follow-ups, a good part with them, and less where blocks are scarce."""

    def hits(follow_ups, platform):
        demand = Demand(3.0, follow_ups=follow_ups)
        engine = LlmEngine(platform, Traffic(demand, 1), seed=1)
        engine.advance(600.0)
        return engine.metrics.prefix_cache_hits / engine.metrics.prefix_cache_queries

    tight = replace(H100, kv_blocks=2_100)
    assert 0.0 == hits(0.0, H100)
    assert hits(0.5, H100) > 0.2
    assert hits(0.5, tight) < hits(0.5, H100)


# What goes wrong.


def mean(histogram):
    return histogram.sum / histogram.count


@pytest.mark.parametrize(
    ("trouble", "amount", "figure", "low", "high"),
    [
        pytest.param(Trouble.SLOWER, 1.5, "inter_token", 1.45, 1.9, id="slower"),
        pytest.param(Trouble.DRIFT, 0.1, "inter_token", 1.3, 2.0, id="drift"),
        pytest.param(Trouble.STALL, 1.0, "inter_token", 1.05, 1.3, id="stalls"),
        pytest.param(Trouble.TIME_SLICE, 0.5, "inter_token", 1.2, 2.2, id="time slices"),
        pytest.param(Trouble.CPU_STARVED, 0.01, "inter_token", 1.7, 2.6, id="no core"),
        pytest.param(Trouble.SLOWER_PREFILL, 3.0, "prefill", 2.0, 4.0, id="slow prompts"),
        pytest.param(Trouble.LONGER_PROMPTS, 3.0, "prompt_lengths", 2.0, 3.1, id="long prompts"),
        pytest.param(Trouble.LONGER_ANSWERS, 3.0, "output_lengths", 2.9, 3.1, id="long answers"),
    ],
)
def test_a_fault_does_what_it_says(trouble, amount, figure, low, high):
    """By how much the mean is what it is without the fault."""
    means = [
        mean(getattr(engine.metrics, figure))
        for engine in (lived(3.0, 600.0, Fault(trouble, amount)), lived())
    ]

    assert low < means[0] / means[1] < high


def test_three_times_as_many_come():
    overloaded = lived(3.0, 600.0, Fault(Trouble.OVERLOAD, 3.0))

    ratio = overloaded.metrics.first_token.count / lived().metrics.first_token.count
    assert 3.0 == pytest.approx(ratio, rel=0.15)


def test_failures_are_counted_as_errors():
    metrics = lived(3.0, 600.0, Fault(Trouble.FAILURES, 0.25)).metrics

    share = metrics.finished[FinishedReason.ERROR] / sum(metrics.finished.values())
    assert share == pytest.approx(0.25, abs=0.04)


def test_a_small_kv_cache_puts_sequences_back():
    """The cache is full, some give way, and others wait; before the onset nothing of that."""
    fault = Fault(Trouble.KV_SHORTAGE, 0.02, onset_s=300.0)
    engine = LlmEngine(H100, Traffic(Demand(5.0), 1), faults=[fault], seed=1)
    engine.advance(299.0)
    before = engine.metrics.preemptions
    engine.advance(600.0)

    assert 0 == before
    assert engine.metrics.preemptions > 20
    assert engine.metrics.waiting > 0
    assert engine.metrics.kv_cache_usage > 0.0


def test_a_fault_begins_and_ends():
    faults = [Fault(Trouble.OVERLOAD, 0.0, onset_s=100.0, until_s=200.0)]
    engine = LlmEngine(H100, Traffic(Demand(5.0), 1), faults=faults, seed=1)
    came = []
    for second in (100, 200, 300):
        engine.advance(float(second))
        came.append(engine.metrics.first_token.count)

    assert came[0] > 400
    assert came[1] - came[0] <= 15


def test_a_hung_engine_shows_its_last_figures_for_ever():
    engine = LlmEngine(H100, Traffic(Demand(3.0), 1), faults=[Fault(Trouble.HANG, onset_s=60.0)])
    engine.advance(62.0)
    before = counts(engine)
    engine.advance(300.0)

    assert before == counts(engine)
    assert engine.metrics.running > 0


def test_a_restart_counts_from_nothing():
    """Away for 10 s, then loading for 60 s, and then a process that started later."""
    engine = LlmEngine(
        H100,
        Traffic(Demand(3.0), 1),
        faults=[Fault(Trouble.RESTART, 10.0, onset_s=100.0)],
        begins_wall_s=1e9,
    )
    ready = []
    for second in (99, 102, 165, 175, 200):
        engine.advance(float(second))
        ready.append(engine.is_ready)

    assert [True, False, False, True, True] == ready
    assert 1 == engine.restarts
    assert 1e9 + 110 == pytest.approx(engine.metrics.started_wall_s, abs=1.5)
    assert engine.metrics.first_token.count < 120


def test_a_restart_can_bring_another_model():
    larger = PLATFORMS["h100-qwen-32b"]
    fault = Fault(Trouble.RESTART, 1.0, onset_s=10.0)
    engine = LlmEngine(H100, Traffic(Demand(1.0), 1), faults=[fault], becomes=larger)
    engine.advance(20.0)

    assert "Qwen/Qwen3-32B" == engine.metrics.model == engine.platform.model


def test_nobody_comes_at_rate_zero():
    engine = lived(0.0, 100.0)

    assert 0 == engine.metrics.step_tokens.count
