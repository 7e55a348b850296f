"""The scenarios of research/latency.md, section 4, by what they do to engine and node.

Written from the physics of each fault and from that section alone, by somebody who has not read
the rules that they test; `diagnosis_answers` is an exception.  Severities are what people meet: the
mild one is felt, the gross one hurts everybody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diagnosis_answers import corrupt
from diagnosis_hardware import HARDWARE
from diagnosis_plan import Plan
from diagnosis_surroundings import SURROUNDINGS

from gpuward.simulator.llm.faults import Trouble
from gpuward.simulator.llm.platforms import BLOCK_TOKENS, PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis_strain import NodeStrain

GIB = float(1 << 30)
# Means of the trace, and what of a prompt is not in the prefix cache.
PROMPT_TOKENS, ANSWER_TOKENS, NOT_CACHED = 1_400.0, 211.0, 0.85
LONGEST = 20.0
# Of the KV cache, before sessions grow.  At 0.45 and 33,000 bursts alone filled it for minutes on
# end, and hundreds waited, before the onset: the fault was there already (even seeds).
KV_USED_BEFORE = 0.22
LEAST_KV_TOKENS = 45_000.0
PLACES = 48


@dataclass(frozen=True, slots=True)
class Scenario:
    """``verdict``: its name in the specification; ``is_hard``: hardware says so itself."""

    name: str
    verdict: str
    add: Callable[[Plan], None]
    is_hard: bool = False
    # What is right besides: no verdict at all, for one.
    also: tuple[str, ...] = ()


def _fragmentation(plan: Plan) -> None:
    """An adapter here, an image encoder there: free memory is in pieces, and flushes begin."""
    plan.is_local = True
    plan.is_tapped = True
    pieces, retries = plan.pick(0.5, 0.7, 0.9), plan.pick(8.0, 20.0, 50.0)
    # A flush frees and takes segments with the device idle: a tenth of a second each.
    plan.fault(plan.victim, Trouble.STALL, retries / 6 * 0.1, after_s=30.0)
    plan.fault(plan.victim, Trouble.SLOWER_PREFILL, plan.pick(1.3, 1.7, 2.5), after_s=30.0)

    def strain(node: NodeStrain, since_s: float) -> None:
        gpu, grown = node.gpu(plan.victim), min(1.0, since_s / 90.0)
        gpu.stranded_share = pieces * grown
        gpu.retries_per_minute = retries if since_s >= 30.0 else 0.0

    plan.strains.append(strain)


def _step_s(plan: Plan, sequences: float) -> float:
    """Return how long a step takes with so many sequences, prompts of new ones among them."""
    prompts = PROMPT_TOKENS * NOT_CACHED * sequences / ANSWER_TOKENS
    context = sequences * (PROMPT_TOKENS + ANSWER_TOKENS / 2)
    return plan.platform.law.seconds(int(sequences + prompts), int(sequences), int(context))


def _sequences(plan: Plan, longer: float = 1.0) -> float:
    """Return how many run at the onset, with answers so many times as long: Little's law."""
    running = 1.0
    for _ in range(20):
        running = plan.demand.rate(plan.onset_s) * ANSWER_TOKENS * longer * _step_s(plan, running)
    return running


def _held_tokens(plan: Plan, longer: float = 1.0) -> float:
    return _sequences(plan, longer) * (PROMPT_TOKENS + ANSWER_TOKENS * longer / 2)


def _grown(needs: Callable[[Plan, float], float], plan: Plan, room: float) -> float:
    """Return how many times as long answers must be to need ``room``."""
    longer = 1.0
    while needs(plan, longer) < room and longer < LONGEST:
        longer += 0.02
    return longer


def _kv_exhaustion(plan: Plan) -> None:
    """Sessions grow long: what they hold no longer fits, and sequences are put back."""
    plan.is_local = True
    room = max(LEAST_KV_TOKENS, _held_tokens(plan) / KV_USED_BEFORE)
    plan.platform = replace(plan.platform, kv_blocks=int(room / BLOCK_TOKENS) + 1)
    longer = _grown(_held_tokens, plan, plan.pick(1.15, 1.5, 2.5) * room)
    plan.fault(plan.victim, Trouble.LONGER_ANSWERS, longer)


def _neighbour_memory(plan: Plan) -> None:
    """Somebody starts a notebook on the GPU, and takes what the engine left for its bursts."""
    plan.is_local = True
    taken, retries = plan.pick(8.2, 8.8, 9.3) * GIB, plan.pick(10.0, 20.0, 50.0)
    plan.fault(plan.victim, Trouble.STALL, retries / 6 * 0.15, after_s=15.0)
    plan.fault(plan.victim, Trouble.SLOWER_PREFILL, plan.pick(1.3, 1.6, 2.2), after_s=15.0)

    def strain(node: NodeStrain, since_s: float) -> None:
        gpu = node.gpu(plan.victim)
        gpu.foreign_bytes = min(taken, GIB + taken * since_s / 10.0)
        gpu.foreign_share = 0.02
        gpu.retries_per_minute = retries if since_s >= 15.0 else 0.0
        gpu.gaps, gpu.gap_s = 0.05, 2e-3

    plan.strains.append(strain)


def _saturation(plan: Plan) -> None:
    """Longer answers keep all places taken; memory would allow more."""
    plan.is_local = True
    places = 8 + int(2 * _sequences(plan))
    plan.platform = replace(plan.platform, max_num_seqs=places)
    longer = _grown(_sequences, plan, plan.pick(1.15, 1.5, 2.5) * places)
    plan.fault(plan.victim, Trouble.LONGER_ANSWERS, longer)


def _overload(plan: Plan) -> None:
    """More come than the engines can serve."""
    plan.platform = replace(plan.platform, max_num_seqs=PLACES)
    most = PLACES / (ANSWER_TOKENS * _step_s(plan, PLACES))
    more = plan.pick(1.15, 1.5, 2.5) * most / plan.demand.rate(plan.onset_s)
    plan.everywhere(Trouble.OVERLOAD, more)


def _longer_prompts(plan: Plan) -> None:
    """Somebody sends whole documents along; the engine is busy enough for that to be felt."""
    plan.demand = replace(plan.demand, requests_per_second=plan.random.uniform(4.5, 6.0))
    plan.everywhere(Trouble.LONGER_PROMPTS, plan.pick(2.5, 4.0, 6.0))


def _restart(plan: Plan) -> None:
    plan.is_local = True
    plan.platform = replace(plan.platform, load_s=plan.pick(30.0, 60.0, 120.0))
    plan.fault(plan.victim, Trouble.RESTART, plan.pick(5.0, 10.0, 20.0))


def _healthy(plan: Plan) -> None:
    """Every few minutes there is more to do, or less: up to twice the usual."""
    chance = plan.random
    points = [(300.0 * place, chance.uniform(0.6, 1.3)) for place in range(13)]
    points += [
        (at_s + 100.0, chance.uniform(1.3, 2.0)) for at_s, _ in points if chance.random() < 0.2
    ]
    plan.demand = replace(plan.demand, climb=tuple(sorted(points)))


def _ramp(plan: Plan) -> None:
    """A morning in twenty minutes, up to what the engines can well take."""
    peak = plan.pick(1.5, 2.0, 2.5)
    plan.demand = replace(
        plan.demand,
        requests_per_second=plan.random.uniform(2.0, 3.0),
        climb=((plan.onset_s - 600.0, 1.0), (plan.onset_s + 600.0, peak)),
    )


def _deploy(plan: Plan) -> None:
    """The next release serves a model that is four times as large."""
    # Above 1.4 its KV cache is full now and then (even seeds), and then it is not well.
    plan.demand = replace(plan.demand, requests_per_second=plan.random.uniform(1.0, 1.35))
    plan.becomes = replace(PLATFORMS["h100-qwen-32b"], load_s=plan.pick(40.0, 60.0, 90.0))
    plan.fault(plan.victim, Trouble.RESTART, 10.0)


FAULTS = (
    Scenario("fragmentation", "fragmentation", _fragmentation),
    Scenario("kv exhaustion", "kv_exhaustion", _kv_exhaustion),
    Scenario("foreign memory", "noisy_neighbour_memory", _neighbour_memory),
    Scenario("saturation", "overload", _saturation),
    Scenario("overload", "overload", _overload),
    Scenario("longer prompts", "input_anomaly", _longer_prompts),
    *(Scenario(name, verdict, add, is_hard=hard) for name, verdict, add, hard in HARDWARE),
    *(Scenario(name, verdict, add, is_hard=hard) for name, verdict, add, hard in SURROUNDINGS),
    Scenario("corrupt answers", "corrupt_results", corrupt),
    # No latency verdict; that it was noticed is right too.
    Scenario("restart", "restart", _restart, also=("none",)),
)
QUIET = (
    Scenario("healthy", "none", _healthy),
    Scenario("load ramp", "none", _ramp),
    Scenario("larger model", "none", _deploy, also=("restart",)),
)
BY_NAME = {scenario.name: scenario for scenario in (*FAULTS, *QUIET)}
# Two at once: each has its own signature, none makes the other one's.
PAIRS = (
    ("thermal", "longer prompts"),
    ("foreign compute", "kv exhaustion"),
    ("power cap", "slow vector database"),
    ("fragmentation", "CPU starvation"),
)


def plan_of(names: tuple[str, ...], severity: int, seed: int) -> Plan:
    """Return the case of these scenarios together."""
    plan = Plan(" + ".join(names), severity, seed)
    for name in names:
        scenario = BY_NAME[name]
        scenario.add(plan)
        if scenario.verdict != "none":
            plan.truths.append(scenario.verdict)
    return plan
