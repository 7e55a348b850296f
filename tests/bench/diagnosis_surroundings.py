"""Scenarios 13 to 16, 19 and 20 of research/latency.md, section 4: host, upstreams, the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.simulator.llm.faults import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis_plan import Plan
    from diagnosis_strain import NodeStrain

# Names that an operator gave them, and what a healthy one takes.
VECTORS, FEATURES, PROVIDER = "vector-db", "feature-store", "model-provider"
UPSTREAM_S = {VECTORS: 0.04, FEATURES: 0.015, PROVIDER: 0.35}


def _cpu(plan: Plan) -> None:
    """Somebody compiles on the node: the engines' threads wait for a core between two steps."""
    pressure = plan.pick(0.35, 0.6, 0.9)
    plan.everywhere(Trouble.CPU_STARVED, plan.pick(0.0015, 0.005, 0.02))

    def strain(node: NodeStrain, _: float) -> None:
        node.cpu_pressure = pressure
        node.launch = 1.0 + 12.0 * pressure
        node.stolen = 0.6 * pressure

    plan.strains.append(strain)


def _slow(
    name: str,
    slower: tuple[float, float, float],
    refused: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Callable[[Plan], None]:
    """Return what makes an upstream so many times as slow; or refuse, in half of the cases."""

    def add(plan: Plan) -> None:
        plan.upstream = name
        times, share = plan.pick(*slower), plan.pick(*refused)
        if share and plan.random.random() < 0.5:
            times = 1.0
        else:
            share = 0.0

        def strain(node: NodeStrain, _: float) -> None:
            node.upstream_slower[name] = times
            node.upstream_throttled[name] = share

        plan.strains.append(strain)

    return add


def _partition(plan: Plan) -> None:
    """The coordinator is beyond a dead switch; node and service are well."""
    plan.strains.append(lambda node, since_s: setattr(node, "partitioned_s", since_s))


def _clock(plan: Plan) -> None:
    """The wall clock is set wrong by minutes, forward or back."""
    step_s = plan.pick(90.0, 300.0, 3_600.0) * plan.random.choice((-1.0, 1.0))
    plan.everywhere(Trouble.CLOCK_SKEW, step_s)
    plan.strains.append(lambda node, _: setattr(node, "clock_step_s", step_s))


SURROUNDINGS = (
    ("CPU starvation", "host_cpu", _cpu, False),
    ("slow vector database", "upstream", _slow(VECTORS, (12.0, 40.0, 100.0)), False),
    ("slow feature store", "upstream", _slow(FEATURES, (40.0, 120.0, 300.0)), False),
    ("slow model provider", "upstream", _slow(PROVIDER, (4.0, 8.0, 15.0), (0.1, 0.3, 0.7)), False),
    ("partition", "partition", _partition, True),
    ("clock skew", "clock_skew", _clock, False),
)
