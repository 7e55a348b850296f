"""One case of the benchmark of diagnosis: who asks what, what goes wrong, when and how badly."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from diagnosis_strain import NodeStrain

from gpuward.simulator.llm.faults import Fault, Trouble
from gpuward.simulator.llm.platforms import PLATFORMS, Platform, StepLaw
from gpuward.simulator.llm.traffic import DAY_S, Demand

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.simulator.llm.faults import PageTrouble

# The agent has been there for a while when the ten to twenty minutes begin that the
# specification (research/latency.md, section 4) puts before a fault.
WARM_UP_S = 300.0
ONSET_S = (600.0, 1_200.0)
REPLICAS = 2
# A provider that refuses some requests is seen by those who send them.
PROBED = ("vector-db", "feature-store")
PROBES_SHARE, CANARY_SHARE = 0.6, 0.5
SEVERITIES = ("mild", "clear", "gross")
GROSS = 2


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the kernel's log: an XID of a GPU, so long after the onset."""

    after_s: float
    gpu: int
    code: int


@dataclass(frozen=True, slots=True)
class Habits:
    """What is odd about a node and no fault of its: there from the start, and of no effect.

    Without it a rule would seem good that takes any other process, or any lowered limit, as cause.
    """

    # A process of somebody's monitoring that holds memory on every GPU.
    has_monitor: bool
    # Share of the board's own power limit that the operator allows.
    power_limit: float
    cpu_pressure: float
    corrected_per_minute: float
    # How much an upstream's latency varies from second to second: sigma of its logarithm.
    upstream_sigma: float
    # Upstreams that own requests are sent to; of the others callers count theirs.
    probed: tuple[str, ...]

    @classmethod
    def drawn(cls, chance: random.Random) -> Habits:
        return cls(
            has_monitor=chance.random() < 0.3,
            power_limit=0.93 if chance.random() < 0.2 else 1.0,
            cpu_pressure=chance.uniform(0.05, 0.25) if chance.random() < 0.3 else 0.0,
            corrected_per_minute=0.1 if chance.random() < 0.2 else 0.0,
            upstream_sigma=chance.choice((0.1, 0.2, 0.4)),
            probed=tuple(name for name in PROBED if chance.random() < 0.4),
        )


@dataclass(slots=True)
class Plan:
    """A case; scenarios add to it what they do.  Same name, severity and seed: the same case."""

    name: str
    severity: int
    seed: int
    random: random.Random = field(init=False)
    onset_s: float = field(init=False)
    victim: int = field(init=False)
    platform: Platform = field(init=False)
    demand: Demand = field(init=False)
    is_tapped: bool = field(init=False)
    # Verdicts that would be right, best first; empty: none at all.
    truths: list[str] = field(default_factory=list)
    upstream: str = ""
    faults: dict[int, list[Fault]] = field(default_factory=dict)
    strains: list[Callable[[NodeStrain, float], None]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    # What a replica becomes when it restarts, if anything else than it was.
    becomes: Platform | None = None
    # Whether one replica's GPU alone is hit: then a verdict about the other one is wrong.
    is_local: bool = False
    # Whether probes run on the GPUs: an operator must ask for them.
    has_probes: bool = field(init=False)
    # Whether replicas are asked for golden tokens: likewise.
    has_canary: bool = field(init=False)
    habits: Habits = field(init=False)
    # Whether its engines are those of the second, independent simulator.
    is_fluid: bool = False

    def __post_init__(self) -> None:
        case = f"{self.name}/{self.severity}/{self.seed}"
        chance = self.random = random.Random(f"diagnosis/{case}")
        self.has_probes = random.Random(f"probes/{case}").random() < PROBES_SHARE
        self.has_canary = random.Random(f"canary/{case}").random() < CANARY_SHARE
        self.onset_s = WARM_UP_S + float(int(chance.uniform(*ONSET_S)))
        self.victim = chance.randrange(REPLICAS)
        self.is_tapped = chance.random() < 0.7
        self.habits = Habits.drawn(chance)
        plain = PLATFORMS["h100-llama-8b"]
        self.platform = replace(plain, law=_jittered(plain.law, chance), max_num_seqs=96)
        self.demand = Demand(
            chance.uniform(2.5, 5.0),
            swing=0.3,
            begins_at_s=chance.uniform(0.0, DAY_S),
            follow_ups=chance.uniform(0.1, 0.4),
        )

    def pick(self, mild: float, clear: float, gross: float) -> float:
        """Return the figure of this severity, give or take some percent."""
        return (mild, clear, gross)[self.severity] * self.random.uniform(0.95, 1.05)

    def fault(
        self, replica: int, trouble: Trouble, amount: float = 0.0, *, after_s: float = 0.0
    ) -> None:
        """Let ``replica`` have ``trouble`` from so long after the onset."""
        fault = Fault(trouble, amount, self.onset_s + after_s)
        self.faults.setdefault(replica, []).append(fault)

    def page_down(self, replica: int, how: PageTrouble) -> None:
        fault = Fault(Trouble.PAGE_DOWN, onset_s=self.onset_s, page=how)
        self.faults.setdefault(replica, []).append(fault)

    def everywhere(self, trouble: Trouble, amount: float) -> None:
        for replica in range(REPLICAS):
            self.fault(replica, trouble, amount)

    def strain(self, now_s: float) -> NodeStrain:
        """Return what the node is under at ``now_s``."""
        habits = self.habits
        found = NodeStrain(cpu_pressure=habits.cpu_pressure)
        for index in range(REPLICAS):
            found.gpu(index).corrected_per_minute = habits.corrected_per_minute
        if now_s >= self.onset_s:
            for each in self.strains:
                each(found, now_s - self.onset_s)
        return found


def _jittered(law: StepLaw, chance: random.Random) -> StepLaw:
    """Return a law of a card, driver and model somewhat unlike any other."""
    return StepLaw(
        law.fixed_s * chance.uniform(0.85, 1.3),
        law.token_s * chance.uniform(0.85, 1.3),
        law.sequence_s * chance.uniform(0.8, 1.5),
        law.context_s * chance.uniform(0.8, 1.5),
    )
