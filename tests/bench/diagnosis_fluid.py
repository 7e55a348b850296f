"""A second engine, of another make: work flows instead of stepping.

What is tuned on one simulator alone is tuned to its quirks.  This one shares no law with the other:
prompts are served by processor sharing (M/G/1-PS), a pass takes the longer of arithmetic and memory
traffic (roofline) instead of their sum, lengths are lognormal, and time goes by in ticks of a
fifth of a second in which everybody gets his part.  Only what it counts has the same names.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from gpuward.simulator.llm.faults import Conditions, Trouble, conditions
from gpuward.simulator.llm.metrics import EngineMetrics
from gpuward.simulator.llm.request import FinishedReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.simulator.llm.faults import Fault
    from gpuward.simulator.llm.platforms import Platform
    from gpuward.simulator.llm.traffic import Traffic

TICK_S = 0.2
CHUNK_TOKENS = 512
PASS_OVERHEAD_S = 1e-3
KV_TOKENS = 16
PASS_SIGMA = 0.03


class Job:
    """A request: tokens of its prompt left to do, tokens of its answer left to give."""

    def __init__(self, arrived_s: float, prompt: float, answer: float) -> None:
        self.arrived_s, self.prompt, self.answer = arrived_s, prompt, answer
        self.prompt_left, self.answer_left = prompt, answer
        self.started_s = self.first_s = -1.0
        self.held = 0.0


class FluidEngine:
    """The face of ``LlmEngine``: advance it, read its metrics."""

    def __init__(
        self,
        platform: Platform,
        traffic: Traffic,
        *,
        faults: Iterable[Fault] = (),
        seed: int = 0,
        becomes: Platform | None = None,
    ) -> None:
        self.platform, self.traffic, self.faults = platform, traffic, tuple(faults)
        self.conditions = Conditions()
        self.restarts = 0
        self.now_s = 0.0
        self._becomes = becomes
        self._random = random.Random(f"fluid/{seed}")
        self._ready_s = 0.0
        self._gone = [it for it in self.faults if it.trouble is Trouble.RESTART]
        self._begin(-platform.load_s)

    @property
    def is_ready(self) -> bool:
        return self.now_s >= self._ready_s

    def advance(self, until_s: float) -> None:
        while self.now_s + TICK_S <= until_s + 1e-9:
            self.now_s += TICK_S
            self.conditions = conditions(self.faults, self.now_s)
            for fault in [it for it in self._gone if self.now_s >= it.onset_s]:
                self._gone.remove(fault)
                self._restart(fault.amount)
            self._arrive()
            if self.is_ready and not self.conditions.hangs:
                self._flow()

    def _begin(self, started_s: float) -> None:
        blocks = self.platform.kv_blocks
        self.metrics = EngineMetrics(self.platform.model, started_s, kv_blocks=blocks)
        self._queue: list[Job] = []
        self._inside: list[Job] = []

    def _restart(self, down_s: float) -> None:
        self.restarts += 1
        self.platform = self._becomes or self.platform
        self._begin(self.now_s + down_s)
        self._ready_s = self.now_s + down_s + self.platform.load_s

    def _arrive(self) -> None:
        under, traffic, chance = self.conditions, self.traffic, self._random
        traffic.faster = under.overload
        while traffic.next_s <= self.now_s:
            at_s = traffic.take().arrived_s
            prompt = min(16_000.0, chance.lognormvariate(6.8, 0.7) * under.longer_prompts)
            answer = min(8_000.0, chance.lognormvariate(5.0, 0.8) * under.longer_answers)
            if chance.random() < under.failing_share:
                self.metrics.finished[FinishedReason.ERROR] += 1
            elif self.is_ready:
                self._queue.append(Job(at_s, max(1.0, prompt), max(1.0, answer)))

    def _flow(self) -> None:
        """Let every job have its part of one tick."""
        self._admit()
        reading = [job for job in self._inside if job.prompt_left > 0]
        writing = [job for job in self._inside if job.prompt_left <= 0]
        if self._inside:
            pass_s = self._pass_s(len(writing), bool(reading))
            passes = TICK_S / pass_s
            self._read(reading, CHUNK_TOKENS * passes)
            self._write(writing, passes, pass_s)
        metrics = self.metrics
        metrics.running, metrics.waiting = len(self._inside), len(self._queue)
        metrics.kv_cache_usage = min(1.0, self._held / self._room)

    @property
    def _held(self) -> float:
        return sum(job.held for job in self._inside)

    @property
    def _room(self) -> float:
        return self.platform.kv_blocks * KV_TOKENS * self.conditions.kv_share

    def _admit(self) -> None:
        while self._held > self._room and len(self._inside) > 1:
            # The youngest gives up what it has, and begins again.
            job = self._inside.pop()
            job.prompt_left, job.held = job.prompt + job.answer - job.answer_left, 0.0
            self._queue.insert(0, job)
            self.metrics.preemptions += 1
        while self._queue and len(self._inside) < self.platform.max_num_seqs:
            job = self._queue[0]
            if self._held + job.prompt_left > self._room:
                return
            self._inside.append(self._queue.pop(0))
            job.held = job.prompt_left
            if job.started_s < 0:
                job.started_s = self.now_s

    def _pass_s(self, writing: int, reads: bool) -> float:
        law, under, chance = self.platform.law, self.conditions, self._random
        read_s = law.token_s * CHUNK_TOKENS * under.slower_prefill * reads
        arithmetic_s = law.token_s * writing + read_s
        memory_s = law.fixed_s + law.context_s * self._held
        took_s = (max(arithmetic_s, memory_s) + PASS_OVERHEAD_S) * under.slower
        if chance.random() < under.foreign_share:
            took_s *= 2.0
        if under.cpu_wait_s:
            took_s += under.cpu_wait_s * chance.uniform(0.5, 1.5)
        # A stall every ten seconds costs each tick its share.
        took_s *= 1.0 + under.stall_s / 10.0 * chance.uniform(0.0, 2.0)
        return took_s * chance.lognormvariate(0.0, PASS_SIGMA / math.sqrt(5))

    def _read(self, reading: list[Job], tokens: float) -> None:
        """Share ``tokens`` among the prompts that are read, equally."""
        for job in reading:
            job.prompt_left -= tokens / len(reading)
            if job.prompt_left > 0:
                continue
            job.answer_left -= 1.0
            self.metrics.generation_tokens += 1
            if job.first_s < 0:
                job.first_s = self.now_s
                self.metrics.prompt_tokens += int(job.prompt)
                self.metrics.prefix_cache_queries += int(job.prompt)
                # Somewhere in the tick, not at its end.
                took_s = job.first_s - job.arrived_s - TICK_S * self._random.random()
                self.metrics.first_token.observe(max(0.01, took_s))

    def _write(self, writing: list[Job], passes: float, pass_s: float) -> None:
        given = 0.0
        for job in writing:
            part = min(passes, job.answer_left)
            job.answer_left -= part
            job.held += part
            given += part
            if job.answer_left <= 0:
                self._finish(job)
        if given >= 1.0:
            self.metrics.inter_token.observe(pass_s, int(given))
            self.metrics.generation_tokens += int(given)

    def _finish(self, job: Job) -> None:
        metrics, now_s = self.metrics, self.now_s
        self._inside.remove(job)
        metrics.finished[FinishedReason.STOP] += 1
        metrics.e2e.observe(now_s - job.arrived_s)
        metrics.queue.observe(max(0.0, job.started_s - job.arrived_s - TICK_S / 2))
        metrics.prefill.observe(job.first_s - job.started_s)
        metrics.decode.observe(now_s - job.first_s)
        metrics.inference.observe(now_s - job.started_s)
