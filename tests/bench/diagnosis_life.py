"""Live one case: a node's seconds into a real judge, on a virtual clock, until a verdict.

All samplers of the agent that work out something from what others said take their turns at their
own pace.  The verdict that counts is the one that stands a minute after the first, or ten minutes
after the onset.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from diagnosis_answers import CanaryAnswers
from diagnosis_around import UpstreamUsual
from diagnosis_node import Node
from diagnosis_scenarios import BY_NAME, plan_of

from gpuward.agent.component import Components
from gpuward.agent.judge import Judge
from gpuward.agent.samplers.cause_named import CauseNamed
from gpuward.agent.samplers.latency import LatencySampler
from gpuward.agent.samplers.learned_best import LearnedBest
from gpuward.agent.samplers.memory_accounts import MemoryAccounts
from gpuward.agent.samplers.memory_floors import MemoryFloors
from gpuward.agent.samplers.probe_shift import ProbeShift
from gpuward.agent.samplers.saturation import SaturationSampler
from gpuward.agent.samplers.standing import Standing
from gpuward.agent.samplers.usual import UsualLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from diagnosis_plan import Plan

    from gpuward.agent.model import Batch, Finding, OpenFinding

CAUSE = "service.latency.cause"
UNDETERMINED, NONE = "undetermined", "none"
STEP_S = 5
JUDGED_BEFORE_S = 120.0
SETTLE_S = 60.0
PATIENCE_S = 600.0
# Boots and boots ago; the agent's wall clock.
WALL_S = 1_800_000_000.0


class Watchdog:
    """A supervisor that does not listen."""

    def ready(self, status: str) -> None: ...
    def watchdog(self) -> None: ...
    def stopping(self) -> None: ...


@dataclass(slots=True)
class Clock:
    """Shows the second that it was told, and a wall clock that somebody may set."""

    now_s: float = 0.0
    step_s: float = 0.0

    def mono_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return WALL_S + self.now_s + self.step_s

    async def sleep_until(self, mono_s: float) -> None:
        self.now_s = max(self.now_s, mono_s)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the agent said of one replica."""

    verdict: str
    # The next best, best first, with commas between.
    runner_up: str = ""
    upstream: str = ""
    confidence: float = 0.0
    action: str = ""
    endpoint: str = ""

    @property
    def ranking(self) -> tuple[str, ...]:
        """Return the causes that it names, best first."""
        named = (self.verdict, *self.runner_up.split(", "))
        return tuple(name for name in named if name not in (UNDETERMINED, NONE, ""))

    @classmethod
    def of(cls, finding: Finding) -> Verdict:
        """Read it off the rows that the verdict's evidence begins with."""
        rows = {row.name: row.text for row in reversed(finding.evidence)}
        action = "" if finding.action is None else finding.action.value
        return cls(
            rows.get("verdict", UNDETERMINED),
            rows.get("runner_up", ""),
            rows.get("upstream", ""),
            finding.confidence,
            action,
            finding.subject.endpoint,
        )


@dataclass(slots=True)
class Lived:
    """What came of one case."""

    name: str
    severity: int
    seed: int
    truths: list[str]
    upstream: str
    onset_s: float
    # The replica that is hit alone; empty where the fault is not of one.
    victim: str = ""
    # What stood when it counted; and when the first verdict came, after the onset.
    verdicts: list[Verdict] = field(default_factory=list)
    delay_s: float | None = None
    # Verdicts before the onset, and on quiet nodes any.
    false: list[str] = field(default_factory=list)
    lived_s: float = 0.0
    others: list[str] = field(default_factory=list)
    # Whether a quiet node was ever said to be slow for a reason that is not known.
    abstained: bool = False


class Life:
    """A node and the agent on it."""

    def __init__(self, plan: Plan, folder: Path, replicas: int = 2) -> None:
        # Each raise would be a line.
        level = structlog.make_filtering_bound_logger(logging.CRITICAL)
        structlog.configure(wrapper_class=level)
        self.node = Node(plan, replicas)
        self.clock, self.components = Clock(), Components()
        self.judge = Judge(
            node="n",
            boot_id="b",
            instance="i",
            clock=self.clock,
            components=self.components,
            notifier=Watchdog(),
        )
        window = self.judge.readings.window
        self._samplers = (
            MemoryAccounts(window, sees_every_pid=True),
            MemoryFloors(window),
            LearnedBest(folder / "best.json", window),
            LatencySampler(folder / "latency.json", window),
            SaturationSampler(window),
            UsualLoad(window),
            UpstreamUsual(window),
            CanaryAnswers(folder / "canary.json", plan, self.node.replicas),
            ProbeShift(folder / "probes.json", window),
            Standing(self.clock, self._acknowledged_s),
            CauseNamed(window, self._open),
        )

    def second(self, second: int) -> None:
        """Let one second pass, without a judgement."""
        batch = self.node.second(second)
        self.clock.now_s, self.clock.step_s = float(second), self.node.strain.clock_step_s
        self.judge.take("node", batch)
        while not self.judge.events.empty():
            self.judge.events.get_nowait()
        for sampler in self._samplers:
            if second % int(sampler.period_s) == 0:
                self.judge.take(sampler.name, _now(sampler.sample(float(second))))

    def verdicts(self) -> list[Verdict]:
        """Judge, and return what stands."""
        self.judge.tick()
        if self.components.failures.total():
            raise RuntimeError(f"a part failed: {self.judge.snapshot.components}")
        return [Verdict.of(one.finding) for one in self._open() if one.finding.kind == CAUSE]

    def other_kinds(self) -> list[str]:
        return sorted({one.finding.kind for one in self._open()} - {CAUSE})

    def _open(self) -> tuple[OpenFinding, ...]:
        return self.judge.snapshot.open_findings

    def _acknowledged_s(self) -> float:
        return self.clock.now_s - self.node.strain.partitioned_s


def _now(turn: Coroutine[Any, Any, Batch]) -> Batch:
    """Return what a sampler's turn that waits for nothing returns."""
    try:
        turn.send(None)
    except StopIteration as done:
        batch: Batch = done.value
        return batch
    raise RuntimeError("a sampler waited")


def live(
    names: tuple[str, ...],
    severity: int,
    seed: int,
    *,
    fluid: bool = False,
    settle_s: float = SETTLE_S,
    look: Callable[[Life], None] = lambda _: None,
) -> Lived:
    """Live the case of ``names`` together, for ``settle_s`` after the first verdict.

    ``look`` is called after each judgement.
    """
    plan = plan_of(names, severity, seed)
    plan.is_fluid = fluid
    lived = Lived(plan.name, severity, seed, list(plan.truths), plan.upstream, plan.onset_s)
    with tempfile.TemporaryDirectory() as folder:
        life = Life(plan, Path(folder))
        lived.victim = life.node.replicas[plan.victim].endpoint if plan.is_local else ""
        for second in range(1, int(plan.onset_s + PATIENCE_S) + 1):
            life.second(second)
            if second % STEP_S or second < plan.onset_s - JUDGED_BEFORE_S:
                continue
            verdicts = life.verdicts()
            look(life)
            if _note(lived, verdicts, second, settle_s):
                break
        lived.others = life.other_kinds()
    lived.lived_s = float(second)
    return lived


def _note(lived: Lived, verdicts: list[Verdict], second: int, settle_s: float) -> bool:
    """Take down what is said now; returns whether it has been said for long enough."""
    said = [one for one in verdicts if one.verdict not in (UNDETERMINED, NONE)]
    if second < lived.onset_s:
        lived.false += [one.verdict for one in said if one.verdict not in lived.false]
        return False
    if said and lived.delay_s is None:
        lived.delay_s = second - lived.onset_s
    lived.verdicts = verdicts
    return lived.delay_s is not None and second >= lived.onset_s + lived.delay_s + settle_s


def live_quietly(
    names: tuple[str, ...], seed: int, hours: float, replicas: int, *, fluid: bool = False
) -> Lived:
    """Live hours of a node on which nothing is wrong."""
    plan = plan_of(names, 1, seed)
    plan.is_fluid = fluid
    lived = Lived(plan.name, 1, seed, [], "", plan.onset_s)
    with tempfile.TemporaryDirectory() as folder:
        life = Life(plan, Path(folder), replicas)
        for second in range(1, int(hours * 3_600) + 1):
            life.second(second)
            for one in life.verdicts() if second % STEP_S == 0 else ():
                if one.verdict == UNDETERMINED:
                    lived.abstained = True
                elif one.verdict not in BY_NAME[plan.name].also:
                    lived.false.append(f"{one.verdict} at {second} s, {one.endpoint}")
    lived.lived_s = float(second)
    return lived
