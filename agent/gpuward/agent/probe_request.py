"""Measure now, for whoever asks: one probe at a time on a device, with a bound on who waits.

A probe on a GPU needs a context there, which is not always harmless: a GPU that takes one process
alone would be taken from its engine, and on one that is cut into slices nobody knows whose slice is
measured.  Then the question is refused, with the reason, and nothing is touched.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from gpuward.agent.model import Result, SeriesKey
from gpuward.agent.samplers.probe import CPU, STALLED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpuward.agent.model import Snapshot
    from gpuward.agent.samplers.probe import ProbeSampler
    from gpuward.daemon.clock import Clock

PROBE = "latency"
# On one device, the one that is being answered included.
MAX_WAITING = 4
ANSWERED_WITHIN_S = 8.0
# nvmlComputeMode_t: no process may open the GPU, or one alone.
CLOSED_MODES: Mapping[float, str] = {
    2.0: "the GPU's compute mode is PROHIBITED",
    3.0: "the GPU's compute mode is EXCLUSIVE_PROCESS: a probe would keep an engine out",
}


@dataclass(frozen=True, slots=True)
class Probed:
    """Figures by name; or why there are none."""

    result: Result
    figures: Mapping[str, float]
    reason: str = ""


class ProbeRequests:
    """Questions to the probe workers; ``sampler`` is ``None`` where probes are off."""

    def __init__(
        self, sampler: ProbeSampler | None, snapshot: Callable[[], Snapshot], clock: Clock
    ) -> None:
        self._sampler = sampler
        self._snapshot = snapshot
        self._clock = clock
        self._waiting: Counter[str] = Counter()

    async def run(self, probe: str, gpu: str) -> Probed:
        """Return what ``probe`` measures on ``gpu``, empty for the processor."""
        device = gpu or CPU
        if self._sampler is None:
            return _refused("[probes] mode is off: nothing is measured on this node")
        if reason := self._refusal(probe, gpu) or self._sampler.refusal(device):
            return _refused(reason)
        if self._waiting[device] >= MAX_WAITING:
            return _refused(f"busy: {MAX_WAITING} wait for this device already; ask again")
        self._waiting[device] += 1
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                reply = await self._sampler.measure(device, self._clock.mono_s())
        except TimeoutError:
            return _refused(f"its turn did not come within {ANSWERED_WITHIN_S:g} s")
        finally:
            self._waiting[device] -= 1
        if reply.error:
            result = Result.FAIL if reply.error == STALLED else Result.UNKNOWN
            return Probed(result, {}, reply.complaint)
        figures = {name: value for name, value in reply.figures.items() if isfinite(value)}
        return Probed(Result.OK, figures)

    def _refusal(self, probe: str, gpu: str) -> str:
        """Return what speaks against it as far as the node is known; empty for nothing."""
        if probe != PROBE:
            return f"there is no probe of that name; there is: {PROBE}"
        if not gpu:
            return ""
        snapshot = self._snapshot()
        card = next((card for card in snapshot.gpus if card.uuid == gpu), None)
        if card is None:
            return "no GPU of that UUID is seen on this node"
        if not snapshot.driver.up:
            return "the driver does not answer: a probe would hang in it"
        if card.mig or _value(snapshot, "gpu_mig_mode", gpu) == 1.0:
            return "the GPU is cut into MIG devices"
        return CLOSED_MODES.get(_value(snapshot, "gpu_compute_mode", gpu), "")


def _value(snapshot: Snapshot, signal: str, gpu: str) -> float:
    """Return the fresh value of a GPU's signal; 0 when it is not known."""
    sample = snapshot.samples.get(SeriesKey(signal, gpu=gpu))
    return 0.0 if sample is None else sample.value


def _refused(reason: str) -> Probed:
    return Probed(Result.UNKNOWN, {}, reason)
