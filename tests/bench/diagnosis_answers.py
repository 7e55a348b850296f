"""What replicas answer to the golden-token canary, and the fault that nothing else shows.

A kernel that computes wrong, or weights that were damaged: status, pace and counters are as ever.
Answers are the simulated model's own, and the agent's own comparison judges them.  Section 4 of
research/latency.md does not list this fault; unlike the other scenarios it was written by somebody
who knew the rules, and who gave it the physics and not the limits.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from diagnosis_replica import SERVICE

from gpuward.agent.model import Batch, Sample
from gpuward.agent.samplers.endpoint_canary import Canaries
from gpuward.agent.samplers.endpoint_request import CANARY_TOKENS, PROMPT
from gpuward.simulator.llm.faults import Trouble
from gpuward.simulator.llm.words import token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from diagnosis_plan import Plan
    from diagnosis_replica import Replica

# What the configuration's documentation recommends, a fifth more or less at random.
EVERY_S, SPREAD = 60.0, 0.2
REPEATED_S = 10
# Requests that share a batch differ in their last bits: now and then another word wins, and all
# that follow it are others.
TIES = 0.01


def corrupt(plan: Plan) -> None:
    """One replica gives wrong tokens, with status 200 and as fast as ever."""
    plan.is_local = plan.has_canary = True
    plan.fault(plan.victim, Trouble.CORRUPT, plan.pick(0.15, 0.4, 0.9))


class CanaryAnswers:
    """The agent's sampler of endpoints, as far as canaries go; what it would hear is made here."""

    name = "canary"
    period_s = 1.0

    def __init__(self, path: Path, plan: Plan, replicas: Sequence[Replica]) -> None:
        self._canaries = Canaries(path)
        self._random = random.Random(f"answers/{plan.name}/{plan.severity}/{plan.seed}")
        self._replicas = replicas if plan.has_canary else ()
        self._due_s = {one.endpoint: EVERY_S for one in self._replicas}
        self._evidence: dict[str, float] = {}

    async def sample(self, now_s: float) -> Batch:
        return Batch(samples=tuple(self._told(now_s)))

    def _told(self, now_s: float) -> Iterator[Sample]:
        for replica in self._replicas:
            name = replica.endpoint
            figures: dict[str, float] = {}
            if now_s >= self._due_s[name]:
                self._due_s[name] = now_s + EVERY_S * self._random.uniform(1 - SPREAD, 1 + SPREAD)
                figures = self._compared(replica)
            if now_s % REPEATED_S == 0 and name in self._evidence:
                figures["evidence"] = self._evidence[name]
            for figure, value in figures.items():
                yield Sample(replica.key(f"endpoint_canary_{figure}_ratio"), now_s, value)

    def _compared(self, replica: Replica) -> dict[str, float]:
        """Return how the answer to one request agrees; nothing where none comes."""
        under = replica.engine.conditions
        if replica.is_gone or under.hangs or self._random.random() < under.failing_share:
            return {}
        model = replica.engine.platform.model
        words = tuple(self._words(model, under.corrupt_share))
        found = self._canaries.note(SERVICE, replica.endpoint, (model,), words)
        if found is None:
            self._evidence.pop(replica.endpoint, None)
            return {}
        self._evidence[replica.endpoint] = found.evidence_ratio
        return {
            "agreement": found.ratio,
            "usual": found.usual_ratio,
            "evidence": found.evidence_ratio,
        }

    def _words(self, model: str, corrupt_share: float) -> Iterator[str]:
        """Yield an answer: one word that is another makes others of all that follow."""
        chance, prompt = self._random, PROMPT
        parts_at = chance.randrange(CANARY_TOKENS) if chance.random() < TIES else CANARY_TOKENS
        for place in range(CANARY_TOKENS):
            if place == parts_at or chance.random() < corrupt_share:
                prompt = f"{PROMPT}, otherwise {chance.random()}"
            yield token(model, prompt, place)
