"""Continuous batching: what each step of the engine works on, and who has to wait.

As vLLM's scheduler does (v1/core/sched/scheduler.py): a token for every sequence that decodes,
then the rest of the step's tokens for prompts in chunks, those under way before new ones.  Where
the KV cache has no room for the next tokens of a running sequence, the youngest is put back to the
head of the queue and computed anew.

A sequence that decodes moves by one token a step, like all others; so a step costs the same however
many there are: they are counted by when they end and by when they need their next block.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from gpuward.simulator.llm.kv_cache import KvCache, blocks_of
from gpuward.simulator.llm.platforms import BLOCK_TOKENS

if TYPE_CHECKING:
    from gpuward.simulator.llm.platforms import Platform
    from gpuward.simulator.llm.request import Request


@dataclass(slots=True)
class Plan:
    """One step: sequences that decode, tokens of prompts, and what attention reads for both."""

    decoding: int
    prompt_tokens: int
    prompts: list[tuple[Request, int]]
    sequences: int
    context: int
    # With each whether it had been decoding, or was still being computed.
    preempted: list[tuple[Request, bool]]
    queried_tokens: int = 0
    cached_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.decoding + self.prompt_tokens


class Scheduler:
    """Requests of one engine; ``waiting`` is in order of turn, ``running`` in order of start."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.cache = KvCache(platform.kv_blocks)
        self.waiting: deque[Request] = deque()
        self.running: dict[Request, None] = {}
        self.step = 0
        self.decoding = 0
        self._context = 0
        self._prefilling: dict[Request, None] = {}
        # By remainder of the step in which they need a block: how many sequences do.
        self._growing = [0] * BLOCK_TOKENS
        # (step of the last token, number, turn, request)
        self._ends: list[tuple[int, int, int, Request]] = []

    def plan(self) -> Plan:
        """Begin the next step; an empty plan when there is nothing to work on."""
        self.step += 1
        preempted = self._make_room()
        plan = Plan(self.decoding, 0, [], self.decoding, self._context, preempted)
        budget = self._platform.max_num_batched_tokens - self.decoding
        if self._prefilling or self.waiting:
            self._chunks(plan, budget)
        self._context += self.decoding
        return plan

    def finish(self, plan: Plan) -> tuple[list[Request], list[Request]]:
        """End the step; returns requests whose prompt is done, and those with their last token."""
        started = []
        for request, tokens in plan.prompts:
            if request not in self._prefilling:
                # Its caller went away in the meantime.
                continue
            request.computed += tokens
            if request.computed >= request.to_compute:
                del self._prefilling[request]
                request.generated += 1
                started.append(request)
        ended = []
        while self._ends and self._ends[0][0] <= self.step:
            _, _, turn, request = heappop(self._ends)
            if request.turn == turn and request in self.running:
                self._settle(request)
                ended.append(request)
        for request in started:
            if request.generated >= request.output_tokens:
                ended.append(request)
            else:
                self._decode(request)
        for request in ended:
            self._leave(request)
        return started, ended

    def tokens_of(self, request: Request) -> int:
        """Return how many output tokens ``request`` has by the end of the last step."""
        if request.decodes_from < 0:
            return request.generated
        return request.generated + self.step - request.decodes_from

    def drop(self, request: Request) -> None:
        """Forget a request whose caller is gone."""
        if request not in self.running:
            self.waiting.remove(request)
            return
        self._prefilling.pop(request, None)
        if request.decodes_from >= 0:
            self._settle(request)
        self._leave(request)

    def _make_room(self) -> list[tuple[Request, bool]]:
        """Put sequences back until those that decode have their blocks; returns them."""
        preempted = []
        while self._growing[self.step % BLOCK_TOKENS] > self.cache.free:
            youngest = next(reversed(self.running))
            preempted.append((youngest, youngest.decodes_from >= 0))
            self._preempt(youngest)
        blocks = self._growing[self.step % BLOCK_TOKENS]
        if blocks:
            self.cache.take(blocks)
        return preempted

    def _preempt(self, request: Request) -> None:
        self._prefilling.pop(request, None)
        if request.decodes_from >= 0:
            # It has not had its turn in this step.
            self.step -= 1
            self._settle(request)
            self.step += 1
        self._leave(request)
        request.turn += 1
        request.computed = request.blocks = 0
        self.waiting.appendleft(request)

    def _chunks(self, plan: Plan, budget: int) -> None:
        for request in self._prefilling:
            budget -= self._chunk(plan, request, budget)
        most = self._platform.max_num_seqs
        while self.waiting and budget > 0 and not plan.preempted and len(self.running) < most:
            request = self.waiting[0]
            known = min(self.cache.remembered_tokens(request.talk), request.to_compute - 1)
            tokens = min(budget, request.to_compute - known)
            if blocks_of(known + tokens) > self.cache.free:
                return
            self.waiting.popleft()
            self.cache.recall(request.talk)
            plan.queried_tokens += request.to_compute
            plan.cached_tokens += known
            request.computed = known
            self.running[request] = self._prefilling[request] = None
            budget -= self._chunk(plan, request, budget)

    def _chunk(self, plan: Plan, request: Request, budget: int) -> int:
        """Give ``request`` as many of ``budget`` tokens as it has room for."""
        tokens = min(budget, request.to_compute - request.computed)
        blocks = blocks_of(request.computed + tokens) - request.blocks
        if tokens <= 0 or blocks > self.cache.free:
            return 0
        self.cache.take(blocks)
        request.blocks += blocks
        plan.prompts.append((request, tokens))
        plan.prompt_tokens += tokens
        plan.sequences += 1
        plan.context += request.computed
        return tokens

    def _decode(self, request: Request) -> None:
        request.decodes_from = self.step
        self.decoding += 1
        self._context += request.computed
        self._growing[_needs_block_at(request)] += 1
        last = self.step + request.output_tokens - request.generated
        heappush(self._ends, (last, request.number, request.turn, request))

    def _settle(self, request: Request) -> None:
        """Write down what a sequence has that decoded up to this step, and count it no more."""
        done = self.step - request.decodes_from
        self._growing[_needs_block_at(request)] -= 1
        request.generated += done
        request.computed += done
        request.blocks = blocks_of(request.computed)
        request.decodes_from = -1
        self.decoding -= 1
        self._context -= request.computed

    def _leave(self, request: Request) -> None:
        del self.running[request]
        self.cache.give_back(request.blocks, request.talk)


def _needs_block_at(request: Request) -> int:
    """Return the remainder of the steps in which a decoding sequence enters a new block."""
    return (request.decodes_from + 1 - request.computed) % BLOCK_TOKENS
