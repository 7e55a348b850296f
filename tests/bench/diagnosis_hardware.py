"""Scenarios 7 to 12, 17 and 18 of research/latency.md, section 4: the GPU and who else is on it.

How much slower an engine gets with its clocks: decoding waits for memory about a third of its time,
and memory keeps its clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis_plan import GROSS, Line
from diagnosis_strain import HW_SLOWDOWN, HW_THERMAL, POWER_BRAKE, SW_THERMAL

from gpuward.simulator.llm.faults import PageTrouble, Trouble

if TYPE_CHECKING:
    from diagnosis_plan import Plan
    from diagnosis_strain import NodeStrain

GIB = float(1 << 30)
MEMORY_BOUND = 0.35
# What a busy card draws, and what it draws whatever its clock is.
BUSY_WATTS, STATIC_WATTS = 560.0, 100.0


def _slower_by(clock: float) -> float:
    return MEMORY_BOUND + (1.0 - MEMORY_BOUND) / clock


def _power_cap(plan: Plan) -> None:
    """Somebody lowers the limit, or the rack pulls the brake: one case in three."""
    plan.is_local = True
    is_brake = plan.random.random() < 1 / 3
    limit_watts = plan.pick(450.0, 380.0, 300.0)
    # Power goes with the square of the voltage and the clock: about the 2.5th power of the clock.
    clock = ((limit_watts - STATIC_WATTS) / (BUSY_WATTS - STATIC_WATTS)) ** 0.4
    clock = plan.pick(0.8, 0.65, 0.5) if is_brake else clock
    plan.fault(plan.victim, Trouble.SLOWER, _slower_by(clock))

    def strain(node: NodeStrain, _: float) -> None:
        gpu = node.gpu(plan.victim)
        gpu.clock = clock
        if is_brake:
            gpu.reasons, gpu.reasons_duty = POWER_BRAKE | HW_SLOWDOWN, 0.95
        else:
            gpu.power_limit_watts = limit_watts

    plan.strains.append(strain)


def _thermal(plan: Plan) -> None:
    """A fan dies; a minute later the clocks go down, and up, and down."""
    plan.is_local = True
    duty, clock = plan.pick(0.4, 0.7, 0.95), plan.pick(0.85, 0.75, 0.55)
    hardware = plan.severity == GROSS or plan.random.random() < 1 / 3
    bits = HW_THERMAL | HW_SLOWDOWN if hardware else SW_THERMAL
    mean = 1.0 - duty * (1.0 - clock)
    plan.fault(plan.victim, Trouble.SLOWER, _slower_by(mean), after_s=60.0)

    def strain(node: NodeStrain, since_s: float) -> None:
        gpu = node.gpu(plan.victim)
        gpu.hotter_celsius = min(24.0, 0.4 * since_s)
        if since_s >= 60.0:
            gpu.clock, gpu.reasons, gpu.reasons_duty = mean, bits, duty

    plan.strains.append(strain)


def _pcie(plan: Plan) -> None:
    """Lanes are lost, or the link trains at an old speed; the engine keeps part of its KV there."""
    plan.is_local = True
    if plan.random.random() < 0.5:
        lanes, speed = ((8, 0.5), (4, 0.25), (2, 0.125))[plan.severity]
        generation = None
    else:
        generation, speed = ((4, 0.5), (3, 0.25), (1, 0.06))[plan.severity]
        lanes = None
    plan.fault(plan.victim, Trouble.SLOWER_PREFILL, 1.0 + 0.5 * (1.0 / speed - 1.0))

    def strain(node: NodeStrain, _: float) -> None:
        gpu = node.gpu(plan.victim)
        gpu.pcie_width, gpu.pcie_generation, gpu.host_copy = lanes, generation, speed

    plan.strains.append(strain)


def _correctable(plan: Plan) -> None:
    """A row goes bad: errors are repaired by the thousand, and each repair takes its time."""
    plan.is_local = True
    rate, pending = plan.pick(200.0, 1_500.0, 10_000.0), plan.severity > 0
    plan.fault(plan.victim, Trouble.SLOWER, plan.pick(1.06, 1.12, 1.25))

    def strain(node: NodeStrain, since_s: float) -> None:
        gpu = node.gpu(plan.victim)
        gpu.corrected_per_minute = rate
        gpu.device_copy = 0.93
        gpu.remap_pending = pending and since_s >= 30.0

    plan.strains.append(strain)


def _uncorrectable(plan: Plan) -> None:
    """A memory error beyond repair: contained it ends a program, uncontained all of them."""
    plan.is_local = True
    code = plan.random.choice(((94,), (48, 94), (48, 95))[plan.severity])
    plan.lines += [Line(float(after_s), plan.victim, code) for after_s in (1, 20, 65)]
    plan.fault(plan.victim, Trouble.FAILURES, plan.pick(0.1, 0.4, 0.9))
    plan.fault(plan.victim, Trouble.SLOWER, plan.pick(1.05, 1.15, 1.4))

    def strain(node: NodeStrain, since_s: float) -> None:
        node.gpu(plan.victim).uncorrected = 1 + int(since_s / 30.0)

    plan.strains.append(strain)


def _foreign_compute(plan: Plan) -> None:
    """A job of somebody else runs on the GPU, and both take turns."""
    plan.is_local = True
    share, held = plan.pick(0.15, 0.35, 0.7), plan.random.uniform(2.0, 6.0) * GIB
    plan.fault(plan.victim, Trouble.TIME_SLICE, share)

    def strain(node: NodeStrain, _: float) -> None:
        gpu = node.gpu(plan.victim)
        gpu.foreign_share, gpu.foreign_bytes = share, held
        gpu.gaps, gpu.gap_s, gpu.event = 0.2 + 0.8 * share, 4e-3, 1.0 + 0.5 * share

    plan.strains.append(strain)


def _lost(plan: Plan) -> None:
    """The GPU falls off the bus: nothing foretold it, and its figures end."""
    plan.is_local = True
    if plan.random.random() < 0.8:
        plan.lines.append(Line(0.0, plan.victim, 79))
    plan.fault(plan.victim, Trouble.HANG)
    # The engine notices, sooner or later, and ends.
    plan.fault(plan.victim, Trouble.RESTART, 100_000.0, after_s=plan.pick(300.0, 60.0, 10.0))

    def strain(node: NodeStrain, _: float) -> None:
        node.gpu(plan.victim).is_lost = True

    plan.strains.append(strain)


def _driver_hang(plan: Plan) -> None:
    """A call into the driver does not come back; processes live, and nothing moves."""
    plan.fault(plan.victim, Trouble.HANG)
    if plan.severity:
        plan.fault(1 - plan.victim, Trouble.HANG, after_s=plan.pick(30.0, 30.0, 5.0))

    def strain(node: NodeStrain, since_s: float) -> None:
        node.driver_waits_s = max(since_s, 0.1)

    plan.strains.append(strain)


def _no_page(plan: Plan) -> None:
    """The page of metrics is gone: refused, too slow, or an error; the engine serves on."""
    plan.is_local = True
    plan.page_down(plan.victim, tuple(PageTrouble)[plan.severity])


HARDWARE = (
    ("power cap", "power_cap", _power_cap, True),
    ("thermal", "thermal", _thermal, True),
    ("PCIe downgrade", "pcie_downgrade", _pcie, True),
    ("correctable errors", "ecc_degraded", _correctable, True),
    ("uncorrectable errors", "gpu_fault", _uncorrectable, True),
    ("foreign compute", "noisy_neighbour_compute", _foreign_compute, False),
    ("GPU lost", "gpu_lost", _lost, True),
    ("driver hang", "driver_hang", _driver_hang, True),
    ("no page of metrics", "telemetry_gap", _no_page, True),
)
