"""Sample which cause is named of a replica in trouble, so that the next look can hold on to it.

A verdict is of one window, and close ones would change places from look to look.  What was named
outlives the window here; which of them it is to be is judged in ``diagnosis.held``.  While no
replica is in trouble there is nothing to hold, and nothing is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.detectors.latency_cause import KIND, NAMED, name_of
from gpuward.agent.diagnosis.case import cases
from gpuward.agent.diagnosis.held import begun, settled
from gpuward.agent.diagnosis.numbers import NUMBERS
from gpuward.agent.diagnosis.verdict import judge
from gpuward.agent.model import Batch, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gpuward.agent.diagnosis.held import Held
    from gpuward.agent.model import OpenFinding
    from gpuward.agent.window import Window


class CauseNamed:
    """``raised``: what is open now; of the last look, verdicts among it."""

    name = "cause_named"
    period_s = 5.0

    def __init__(
        self, window: Callable[[float], Window], raised: Callable[[], Iterable[OpenFinding]]
    ) -> None:
        self._window = window
        self._raised = raised
        self._held: dict[tuple[str, str], Held] = {}

    async def sample(self, now_s: float) -> Batch:
        return Batch(samples=tuple(self._samples(now_s)))

    def _samples(self, now_s: float) -> Iterator[Sample]:
        said = {
            (found.subject.service, found.subject.endpoint): name_of(found)
            for found in (opened.finding for opened in self._raised())
            if found.kind == KIND.name and found.drill is None
        }
        before, self._held = self._held, {}
        for case in cases(self._window(now_s)) if said else ():
            replica = (case.service, case.endpoint)
            if replica not in said:
                continue
            verdict = judge(case)
            held = before.get(replica) or begun(said[replica], verdict)
            held = self._held[replica] = settled(held, verdict, now_s)
            yield Sample(case.key(NAMED), now_s, float(NUMBERS[held.name]))
