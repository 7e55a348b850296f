"""A second engine, made otherwise than the simulator: so that detection is not fitted to one law.

Nothing is stepped.  Sequences share the engine as a fluid: all advance by one token a step, so one
number, the steps done so far, tells when each is finished (processor sharing in virtual time).  A
step takes the longer of two times, as the roofline model has it: reading weights and KV cache, or
the arithmetic of its tokens; batches are padded to the sizes of captured CUDA graphs.  Its law is
not linear, its residuals are not white, and its traffic comes in bursts.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

DAY_S = 86_400.0
TICK_S = 0.5
# An 8B model in bf16 on a card with 2.6 TB/s and 400 TFLOP/s of use.
BYTES_PER_S = 2.6e12
WEIGHT_BYTES = 1.6e10
KV_BYTES_PER_TOKEN = 131_072.0
TOKEN_S = 2 * 8e9 / 4e14
LAUNCH_S = 1.2e-3
SAMPLING_S = 2.5e-5
GRAPH_SIZES = (1, 2, 4, *range(8, 513, 8))
CHUNK_TOKENS = 512
KV_TOKENS = 400_000
MOST_SEQUENCES = 256

STEP_NOISE = 0.025
# What clocks and neighbours do within minutes, and a pause now and then.
WANDER = 0.005
WANDER_KEPT = math.exp(-TICK_S / 120.0)
PAUSE_EVERY_S = 90.0
MEAN_PAUSE_S = 0.05
BURST_EVERY_S = 3_600.0
BURST_S = 600.0


@dataclass(slots=True)
class RooflineEngine:
    """One replica; ``slow_down(now_s)`` multiplies the time of its steps."""

    seed: int
    requests_per_second: float = 5.0
    swing: float = 0.4
    burst: float = 1.8
    begins_at_s: float = 0.0
    slow_down: object = None
    counters: dict[str, float] = field(default_factory=dict)
    now_s: float = 0.0
    _random: random.Random = field(init=False)
    # Steps done at which each sequence is finished, and its tokens.
    _active: list[tuple[float, int]] = field(default_factory=list)
    # Prompt and answer, of those that have room and of those that have none yet.
    _reading: deque[tuple[int, int]] = field(default_factory=deque)
    _waiting: deque[tuple[int, int]] = field(default_factory=deque)
    _steps: float = 0.0
    _context: float = 0.0
    _read: float = 0.0
    _wander: float = 0.0
    _burst_until_s: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(f"roofline/{self.seed}")
        self.counters = dict.fromkeys(
            (
                "replica_inter_tokens_total",
                "replica_inter_token_seconds_total",
                "replica_prompt_tokens_total",
                "replica_preemptions_total",
                "replica_requests_total",
                "replica_kv_cache_usage_ratio",
            ),
            0.0,
        )

    def advance(self, until_s: float) -> None:
        while self.now_s + TICK_S <= until_s:
            self._arrive()
            self._admit()
            self._work()
            self.now_s += TICK_S

    def _arrive(self) -> None:
        chance = self._random
        turn = 2 * math.pi * (self.now_s + self.begins_at_s) / DAY_S
        rate = self.requests_per_second * (1.0 - self.swing * math.cos(turn))
        if chance.random() < TICK_S / BURST_EVERY_S:
            self._burst_until_s = self.now_s + chance.expovariate(1 / BURST_S)
        if self.now_s < self._burst_until_s:
            rate *= self.burst
        at_s = chance.expovariate(rate)
        while at_s < TICK_S:
            prompt = int(min(12_000, chance.lognormvariate(6.6, 0.9))) + 1
            answer = int(min(2_000, chance.gammavariate(1.4, 140.0))) + 1
            self._waiting.append((prompt, answer))
            at_s += chance.expovariate(rate)

    def _admit(self) -> None:
        while self._waiting and len(self._active) + len(self._reading) < MOST_SEQUENCES:
            prompt, answer = self._waiting[0]
            if self._context + prompt + answer > KV_TOKENS:
                return
            self._reading.append(self._waiting.popleft())
            self._context += prompt

    def _work(self) -> None:
        count, unread = len(self._active), sum(prompt for prompt, _ in self._reading) - self._read
        if not count and not unread:
            return
        factor = self._noise()
        padded = GRAPH_SIZES[bisect_left(GRAPH_SIZES, max(1, count))]
        plain_s = factor * self._step_s(padded, count)
        mixed_s = factor * self._step_s(padded + CHUNK_TOKENS, count)
        mixed = min(unread / CHUNK_TOKENS, TICK_S / mixed_s)
        steps = mixed + (TICK_S - mixed * mixed_s) / plain_s
        if count:
            self._decode(count, steps)
        self._finish_prompts(mixed * CHUNK_TOKENS)
        self.counters["replica_kv_cache_usage_ratio"] = self._context / KV_TOKENS

    def _decode(self, count: int, steps: float) -> None:
        self._steps += steps
        self._context += count * steps
        self.counters["replica_inter_tokens_total"] += count * steps
        self.counters["replica_inter_token_seconds_total"] += count * TICK_S
        while self._active and self._active[0][0] <= self._steps:
            finished, tokens = heapq.heappop(self._active)
            self._context -= tokens + self._steps - finished
            self.counters["replica_requests_total"] += 1

    def _finish_prompts(self, tokens: float) -> None:
        self._read += tokens
        while self._reading and self._read >= self._reading[0][0] - 1e-6:
            prompt, answer = self._reading.popleft()
            self._read = max(0.0, self._read - prompt)
            self.counters["replica_prompt_tokens_total"] += prompt
            heapq.heappush(self._active, (self._steps + answer, prompt + answer))

    def _step_s(self, tokens: float, sequences: int) -> float:
        memory_s = (WEIGHT_BYTES + KV_BYTES_PER_TOKEN * self._context) / BYTES_PER_S
        return max(memory_s, TOKEN_S * tokens) + LAUNCH_S + SAMPLING_S * sequences

    def _noise(self) -> float:
        chance = self._random
        fresh = chance.gauss(0.0, WANDER) * math.sqrt(1 - WANDER_KEPT**2)
        self._wander = WANDER_KEPT * self._wander + fresh
        # About fifty steps in a tick.
        factor = math.exp(self._wander + chance.gauss(0.0, STEP_NOISE / 7.0))
        if chance.random() < TICK_S / PAUSE_EVERY_S:
            factor *= 1.0 + chance.expovariate(1 / MEAN_PAUSE_S) / TICK_S
        if self.slow_down is not None:
            factor *= self.slow_down(self.now_s)
        return factor
