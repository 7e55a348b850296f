"""Run every sampler at its own pace, each inside the wrapper that contains its failure.

The driver is asked by a child process, which takes a moment to start: until it has spoken, its
sampler is asked fifty times a second, so that the first scrape is complete half a second after the
process began.  After two seconds nothing is waited for: a driver that hangs at that moment must not
keep the agent from being ready.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

from gpuward.agent.window import NOT_LOOKED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.agent.component import Components
    from gpuward.agent.judge import Judge
    from gpuward.agent.model import Batch
    from gpuward.daemon.clock import Clock

EAGER_S = 2.0
EAGER_PERIOD_S = 0.02
# A turn takes no longer, however short the period.
LEAST_LIMIT_S = 5.0
# Samplers that have little to say in their first turn.
EAGER = frozenset({"nvml"})


class Sampler(Protocol):
    """One source of numbers."""

    name: str
    period_s: float

    async def sample(self, now_s: float) -> Batch:
        """Return what is new; ``now_s`` is monotonic."""
        ...


class Sampling:
    """The loops of all samplers; ``started`` is set when each has had its chance to speak."""

    def __init__(
        self, samplers: Sequence[Sampler], *, judge: Judge, clock: Clock, components: Components
    ) -> None:
        self._samplers = tuple(samplers)
        self._judge = judge
        self._clock = clock
        self._components = components
        self._silent = {sampler.name for sampler in samplers}
        self.started = asyncio.Event()
        # By sampler: the end of its last turn that worked, and how long all turns took.
        self.worked_s: dict[str, float] = {}
        self.turns_seconds: defaultdict[str, float] = defaultdict(float)

    async def run(self) -> None:
        """Sample for ever."""
        eager_until_s = self._clock.mono_s() + EAGER_S
        async with asyncio.TaskGroup() as group:
            for sampler in self._samplers:
                group.create_task(self._loop(sampler, eager_until_s))

    async def _loop(self, sampler: Sampler, eager_until_s: float) -> None:
        due_s = self._clock.mono_s()
        while True:
            await self._turn(sampler)
            if sampler.name in self._silent and (
                sampler.name not in EAGER
                or self._clock.mono_s() >= eager_until_s
                or self._knows_every_gpu()
            ):
                self._spoke(sampler.name)
            is_eager = sampler.name in self._silent
            due_s += EAGER_PERIOD_S if is_eager else sampler.period_s
            # A turn that came late is not made up for.
            due_s = max(due_s, self._clock.mono_s())
            await self._clock.sleep_until(due_s)

    async def _turn(self, sampler: Sampler) -> None:
        component = f"sampler.{sampler.name}"
        began_s = self._clock.mono_s()
        with self._components.contain(component):
            async with asyncio.timeout(max(sampler.period_s, LEAST_LIMIT_S)):
                batch = await sampler.sample(began_s)
            self._judge.take(sampler.name, batch)
            self._components.note(component, getattr(sampler, "health", None))
            self.worked_s[sampler.name] = self._clock.mono_s()
        self.turns_seconds[sampler.name] += self._clock.mono_s() - began_s

    def _knows_every_gpu(self) -> bool:
        window = self._judge.readings.window(self._clock.mono_s())
        sampled = {key.gpu for key in window.fresh()}
        is_missing = not window.driver.up and window.driver != NOT_LOOKED
        return is_missing or (bool(window.gpus) and all(gpu.uuid in sampled for gpu in window.gpus))

    def _spoke(self, name: str) -> None:
        self._silent.discard(name)
        if not self._silent:
            # Shown at once: the next turn of the judge is up to a second away.
            self._judge.tick()
            self.started.set()
