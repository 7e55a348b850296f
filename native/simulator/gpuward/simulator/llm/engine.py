"""The engine in virtual time: ``advance`` it to any moment, then read what it counts.

Nothing here sleeps or reads a clock, so an hour of a busy server takes a few seconds.  A step that
is under way when time is up ends in the next ``advance``; gauges are those of the last step that
ended, as in vLLM, where a hung engine shows its last figures for ever.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gpuward.simulator.llm.faults import STALL_EVERY_S, Conditions, Trouble, conditions
from gpuward.simulator.llm.metrics import EngineMetrics
from gpuward.simulator.llm.noise import Noise
from gpuward.simulator.llm.page import render
from gpuward.simulator.llm.request import FinishedReason
from gpuward.simulator.llm.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.simulator.llm.faults import Fault
    from gpuward.simulator.llm.platforms import Platform
    from gpuward.simulator.llm.request import Request
    from gpuward.simulator.llm.scheduler import Plan
    from gpuward.simulator.llm.traffic import Traffic

LOOK_EVERY_S = 1.0


class LlmEngine:
    """One engine process after another on one platform, asked by ``traffic`` and by ``submit``.

    It is ready at 0; ``begins_wall_s`` is the wall clock's time then.  ``becomes``: what the first
    restart brings, where that is another release.
    """

    def __init__(
        self,
        platform: Platform,
        traffic: Traffic,
        *,
        faults: Iterable[Fault] = (),
        seed: int = 0,
        begins_wall_s: float = 0.0,
        becomes: Platform | None = None,
    ) -> None:
        self.platform = platform
        self.traffic = traffic
        self.faults = tuple(faults)
        self.now_s = 0.0
        self.conditions = Conditions()
        self.restarts = 0
        self._begins_wall_s = begins_wall_s
        self._becomes = becomes
        self._noise = Noise(seed)
        self._looked_s = -math.inf
        self._ready_s = 0.0
        self._restarts_due = sorted(
            (fault.onset_s, fault.amount)
            for fault in self.faults
            if fault.trouble is Trouble.RESTART
        )
        self._stall_at_s = 0.0
        # What is under way, and when it ends.
        self._step: tuple[Plan, float] | None = None
        self._last_step_s = 0.0
        self._begin(started_s=-platform.load_s)

    # What others see of it.

    @property
    def is_ready(self) -> bool:
        """Whether its process serves; while it loads its model it does not even listen."""
        return self.now_s >= self._ready_s

    def page(self) -> str:
        """Return its page of metrics; whether it can be had, ``conditions.page`` says."""
        return render(self.metrics)

    def submit(self, request: Request) -> None:
        """Let ``request`` arrive now."""
        if self._noise.happens(self.conditions.failing_share):
            self.metrics.finished[FinishedReason.ERROR] += 1
            request.finished = FinishedReason.ERROR
        else:
            self._scheduler.waiting.append(request)

    def abort(self, request: Request) -> None:
        """Forget ``request``, unless it is finished: its caller is gone."""
        if request.finished is None:
            self._scheduler.drop(request)
            self._end(request, FinishedReason.ABORT)

    def tokens_of(self, request: Request) -> int:
        """Return how many tokens ``request`` has been given so far."""
        return self._scheduler.tokens_of(request)

    # Time.

    def advance(self, until_s: float) -> None:
        """Let time pass until ``until_s``."""
        while True:
            if self.now_s >= self._looked_s + LOOK_EVERY_S:
                self._look()
            if self._step is None:
                self._step = self._next_step()
            if self._step is None:
                if not self._wait(until_s):
                    return
                continue
            plan, ends_s = self._step
            if ends_s > until_s or self.conditions.hangs:
                self._arrive(until_s)
                self.now_s = until_s
                return
            self.now_s = max(self.now_s, ends_s)
            self._step = None
            self._finish(plan)

    def _look(self) -> None:
        """See what the faults of this second are."""
        self._looked_s = self.now_s
        if not self.faults:
            return
        now = self.conditions = conditions(self.faults, self.now_s)
        if self._restarts_due and self.now_s >= self._restarts_due[0][0]:
            self._restart(self._restarts_due.pop(0)[1])
        self.traffic.faster, self.traffic.longer = now.overload, now.longer_prompts
        self.traffic.wordier = now.longer_answers
        self._scheduler.cache.resize(int(self.platform.kv_blocks * now.kv_share))

    def _wait(self, until_s: float) -> bool:
        """Let time pass without a step; returns whether there is something to do before then."""
        next_s = max(self.traffic.next_s, self._ready_s)
        if self.faults:
            # Conditions may change before anybody comes.
            next_s = min(next_s, self._looked_s + LOOK_EVERY_S)
        self.now_s = min(until_s, max(next_s, self.now_s))
        return next_s < until_s

    def _arrive(self, until_s: float) -> None:
        while self.traffic.next_s <= until_s:
            request = self.traffic.take()
            # Nobody answers while the process is away.
            if request.arrived_s >= self._ready_s:
                self.submit(request)

    def _next_step(self) -> tuple[Plan, float] | None:
        """Begin a step; returns it and when it ends, ``None`` when there is nothing to do."""
        if self.traffic.next_s <= self.now_s:
            self._arrive(self.now_s)
        scheduler = self._scheduler
        if not (scheduler.running or scheduler.waiting) or not self.is_ready:
            return None
        plan = scheduler.plan()
        for request, _ in plan.prompts:
            if request.scheduled_s < 0:
                request.scheduled_s = self.now_s
        for request, was_decoding in plan.preempted:
            if was_decoding:
                request.last_token_s = self._last_step_s
        return plan, self.now_s + self._seconds(plan)

    def _seconds(self, plan: Plan) -> float:
        now_s, noise, under = self.now_s, self._noise, self.conditions
        law, prompt = self.platform.law, plan.prompt_tokens
        took_s = law.seconds(plan.tokens, plan.sequences, plan.context)
        took_s += law.token_s * prompt * (under.slower_prefill - 1.0)
        took_s *= under.slower * noise.factor(now_s)
        if under.foreign_share:
            took_s *= noise.foreign(now_s, under.foreign_share)
        if under.cpu_wait_s:
            took_s += noise.wait_s(under.cpu_wait_s)
        if under.stall_s and now_s >= self._stall_at_s:
            took_s += under.stall_s
            self._stall_at_s = now_s + STALL_EVERY_S
        return took_s + noise.pause_s(now_s)

    def _finish(self, plan: Plan) -> None:
        now_s, metrics = self.now_s, self.metrics
        started, ended = self._scheduler.finish(plan)
        if plan.decoding:
            metrics.inter_token.observe(now_s - self._last_step_s, plan.decoding)
        metrics.generation_tokens += plan.decoding + len(started)
        metrics.step_tokens.observe(plan.tokens)
        metrics.preemptions += len(plan.preempted)
        metrics.prefix_cache_queries += plan.queried_tokens
        metrics.prefix_cache_hits += plan.cached_tokens
        self._last_step_s = now_s
        for request in started:
            self._first_token(request)
        for request in ended:
            self._count(request)
        if self.traffic.next_s <= now_s:
            self._arrive(now_s)
        metrics.running = len(self._scheduler.running)
        metrics.waiting = len(self._scheduler.waiting)
        metrics.kv_cache_usage = self._scheduler.cache.usage

    def _first_token(self, request: Request) -> None:
        """Count a prompt that is done; after a preemption it is only one token more."""
        metrics, now_s = self.metrics, self.now_s
        if request.first_token_s >= 0:
            metrics.inter_token.observe(now_s - request.last_token_s)
            return
        request.first_token_s = now_s
        metrics.first_token.observe(now_s - request.arrived_s)
        metrics.prompt_tokens += request.prompt_tokens

    def _count(self, request: Request) -> None:
        metrics = self.metrics
        request.last_token_s = self.now_s
        decode_s = self.now_s - request.first_token_s
        metrics.e2e.observe(self.now_s - request.arrived_s)
        metrics.queue.observe(request.scheduled_s - request.arrived_s)
        metrics.inference.observe(self.now_s - request.scheduled_s)
        metrics.prefill.observe(request.first_token_s - request.scheduled_s)
        metrics.decode.observe(decode_s)
        if request.generated > 1:
            metrics.time_per_token.observe(decode_s / (request.generated - 1))
        metrics.prompt_lengths.observe(request.prompt_tokens)
        metrics.output_lengths.observe(request.generated)
        # About one answer in eight ends because it may not be longer.
        is_cut = request.number % 8 == 0
        self._end(request, FinishedReason.LENGTH if is_cut else FinishedReason.STOP)

    def _end(self, request: Request, reason: FinishedReason) -> None:
        request.finished = reason
        self.metrics.finished[reason] += 1

    # Processes.

    def _begin(self, started_s: float) -> None:
        wall_s = self._begins_wall_s + self.conditions.wall_offset_s
        self.metrics = EngineMetrics(
            self.platform.model, wall_s + started_s, kv_blocks=self.platform.kv_blocks
        )
        self._scheduler = Scheduler(self.platform)
        self._step = None
        self._last_step_s = self.now_s

    def _restart(self, down_s: float) -> None:
        self.restarts += 1
        for request in (*self._scheduler.running, *self._scheduler.waiting):
            request.finished = FinishedReason.ABORT
        self.platform = self._becomes or self.platform
        self._begin(self.now_s + down_s)
        self._ready_s = self.now_s + down_s + self.platform.load_s
