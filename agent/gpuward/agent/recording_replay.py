"""Judge a recording as the agent would have: the same readings, detectors, dwell and suppression.

The clock is the recording's.  What samplers brought is taken in where it was, derived samples
included, so the findings are those of the agent that recorded; or derived samples are worked out
anew, by this version, which then knows nothing that was learnt before the recording began.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gpuward.agent.component import Components
from gpuward.agent.judge import Judge
from gpuward.agent.recording import Brought
from gpuward.agent.samplers.cause_named import CauseNamed
from gpuward.agent.samplers.latency import LatencySampler
from gpuward.agent.samplers.learned_best import LearnedBest
from gpuward.agent.samplers.memory_floors import MemoryFloors
from gpuward.agent.samplers.probe_shift import ProbeShift
from gpuward.agent.samplers.saturation import SaturationSampler
from gpuward.agent.samplers.usual import UsualLoad
from gpuward.agent.xid_catalogue import CATALOGUE
from gpuward.daemon.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from pathlib import Path

    from gpuward.agent.model import OpenFinding
    from gpuward.agent.recording import Moment
    from gpuward.agent.recording_file import RecordingReader
    from gpuward.agent.sampling import Sampler
    from gpuward.agent.xid_catalogue import Xid


class Turn(StrEnum):
    """What became of a finding."""

    RAISED = "raised"
    CHANGED = "changed"
    CLEARED = "cleared"
    # It was over as it began: an XID.
    HAPPENED = "happened"


@dataclass(frozen=True, slots=True)
class Told:
    """One line of the timeline."""

    wall_s: float
    turn: Turn
    opened: OpenFinding


class Replay:
    """Replays what ``reader`` reads; ``components`` tells afterwards which parts failed.

    ``anew``: an empty folder for what derived samplers learn; ``None``: they stay as recorded.
    ``xids``: what their codes mean.
    """

    def __init__(
        self,
        reader: RecordingReader,
        anew: Path | None = None,
        *,
        xids: Mapping[int, Xid] = CATALOGUE,
    ) -> None:
        self._reader = reader
        self._anew = anew
        self._xids = xids
        self.components = Components()
        self.judgements = 0
        self.seconds = 0.0

    async def run(self) -> AsyncIterator[Told]:
        """Yield what becomes of findings, in order; raises ``RecordingError``."""
        clock = _Clock()
        judge: Judge | None = None
        derived = _Derived(())
        for moment in self._reader:
            if judge is None:
                clock.offset_s = self._reader.begun.wall_offset_s
                clock.now_s = self._reader.begun.mono_s
                judge = self._judge(clock)
                derived = _Derived(() if self._anew is None else _samplers(self._anew, judge))
            clock.go_to(moment)
            if isinstance(moment, Brought):
                if moment.source not in derived.names:
                    judge.take(moment.source, moment.batch)
            else:
                await derived.turn(judge, moment.at_s)
                judge.ticks = moment.number
                self.judgements += 1
                for told in _judged(judge, clock):
                    yield told
            while not judge.events.empty():
                yield Told(clock.wall_s(), Turn.HAPPENED, judge.events.get_nowait()[1])
            self.seconds = moment.at_s - self._reader.begun.mono_s

    def _judge(self, clock: _Clock) -> Judge:
        return Judge(
            node=self._reader.begun.node,
            boot_id="replay",
            instance="replay",
            clock=clock,
            components=self.components,
            notifier=Notifier(""),
            xids=self._xids,
        )


class _Clock:
    """Shows the time of the recording."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.offset_s = 0.0

    def mono_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s + self.offset_s

    async def sleep_until(self, mono_s: float) -> None:
        self.now_s = max(self.now_s, mono_s)

    def go_to(self, moment: Moment) -> None:
        self.now_s = max(self.now_s, moment.at_s)


class _Derived:
    """Samplers that look at nothing but readings, each at its own pace."""

    def __init__(self, samplers: Iterable[Sampler]) -> None:
        self._due_s = {sampler: float("-inf") for sampler in samplers}
        self.names = frozenset(sampler.name for sampler in self._due_s)

    async def turn(self, judge: Judge, now_s: float) -> None:
        for sampler, due_s in self._due_s.items():
            if now_s >= due_s:
                judge.take(sampler.name, await sampler.sample(now_s))
                self._due_s[sampler] = now_s + sampler.period_s


def _samplers(folder: Path, judge: Judge) -> Iterator[Sampler]:
    window = judge.readings.window
    yield MemoryFloors(window)
    yield LearnedBest(folder / "gpu-best.json", window)
    yield LatencySampler(folder / "latency.json", window)
    yield ProbeShift(folder / "probes.json", window)
    yield SaturationSampler(window)
    yield UsualLoad(window)
    yield CauseNamed(window, lambda: judge.snapshot.open_findings)


def _judged(judge: Judge, clock: _Clock) -> Iterator[Told]:
    """Judge, and yield what that has changed, oldest finding first."""
    before = {opened.finding_id: opened for opened in judge.snapshot.open_findings}
    judge.tick()
    after = {opened.finding_id: opened for opened in judge.snapshot.open_findings}
    for name, opened in before.items():
        if name not in after:
            yield Told(clock.wall_s(), Turn.CLEARED, opened)
    for name, opened in after.items():
        if name not in before:
            yield Told(clock.wall_s(), Turn.RAISED, opened)
        elif _loudness(opened) != _loudness(before[name]):
            yield Told(clock.wall_s(), Turn.CHANGED, opened)


def _loudness(opened: OpenFinding) -> tuple[object, ...]:
    finding = opened.finding
    return (finding.result, finding.in_maintenance, opened.suppressed)
