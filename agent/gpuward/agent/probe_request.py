"""Measure now, for whoever asks: one probe at a time on a device, with a bound on who waits.

A question is refused, with the reason, where the schedule would not measure either: the rules are
the same for people.  Nothing is touched then.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from gpuward.agent.model import Result
from gpuward.agent.probe_workers import CPU
from gpuward.agent.probes.table import ON_CPU, ON_GPU
from gpuward.agent.samplers.probe import REFUSED, STALLED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.agent.probe_link import Reply
    from gpuward.agent.samplers.probe import ProbeSampler
    from gpuward.daemon.clock import Clock

# On one device, the one that is being answered included.
MAX_WAITING = 4
ANSWERED_WITHIN_S = 8.0


@dataclass(frozen=True, slots=True)
class Probed:
    """Figures by name; or why there are none."""

    result: Result
    figures: Mapping[str, float]
    reason: str = ""


class ProbeRequests:
    """Questions to the probe workers; ``sampler`` is ``None`` where probes are off."""

    def __init__(self, sampler: ProbeSampler | None, clock: Clock) -> None:
        self._sampler = sampler
        self._clock = clock
        self._waiting: Counter[str] = Counter()

    async def run(self, probe: str, gpu: str) -> Probed:
        """Return what ``probe`` measures on ``gpu``, empty for the processor."""
        device = gpu or CPU
        if self._sampler is None:
            return _refused("[probes] mode is off: nothing is measured on this node")
        if probe not in (there := ON_GPU if gpu else ON_CPU):
            of = "a GPU" if gpu else "the processor"
            return _refused(f"there is no such probe of {of}; there is: {', '.join(there)}")
        if self._waiting[device] >= MAX_WAITING:
            return _refused(f"busy: {MAX_WAITING} wait for this device already; ask again")
        self._waiting[device] += 1
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                return _probed(await self._sampler.measure(device, probe, self._clock))
        except TimeoutError:
            return _refused(f"its turn did not come within {ANSWERED_WITHIN_S:g} s")
        finally:
            self._waiting[device] -= 1
            if not self._waiting[device]:
                del self._waiting[device]


def _probed(reply: Reply) -> Probed:
    if reply.error == REFUSED:
        return _refused(reply.reason)
    if reply.error:
        result = Result.FAIL if reply.error == STALLED else Result.UNKNOWN
        return Probed(result, {}, reply.complaint)
    figures = {name: value for name, value in reply.figures.items() if isfinite(value)}
    return Probed(Result.OK, figures)


def _refused(reason: str) -> Probed:
    return Probed(Result.UNKNOWN, {}, reason)
