"""How well headroom foretells an out-of-memory error, and how often its cause is named rightly.

Every run of the replica gives a sample a step, with what the tap's counters show: no walk over the
blocks.  The label is an out-of-memory error within the next ten steps.  One ROC curve over all runs
(so one threshold for every workload, device and configuration), beside what others watch: reserved
minus allocated.  The cause is compared with an experiment on each failed request: what is in use is
laid anew into an empty device (a restart, or expandable segments); then the neighbour's cache is
emptied.

Seeds from 1,000 on; no limit of the agent was chosen with them.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, product
from typing import TYPE_CHECKING

from figures import Figure, table
from prediction_warning import healthy, slow_ends
from prediction_workloads import GIB, MIB, WORKLOADS, Workload

from gpuward.agent.fragmentation import (
    AllocatorState,
    Attribution,
    attribute,
    headroom_safe,
    mean_large_request,
)
from gpuward.simulator.allocator import CachingAllocator, OutOfMemory
from gpuward.simulator.allocator_config import AllocatorConfig, segment_size
from gpuward.simulator.allocator_device import FixedDevice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.simulator.allocator_blocks import Block

CONFIGS = (
    "",
    "expandable_segments:True",
    "roundup_power2_divisions:8",
    "max_split_size_mb:256",
)
DEVICES_GIB = (7, 9, 12)
FIRST_SEED = 2_000
SEEDS = 4
STEPS = 300
HORIZON_STEPS = 10
# Of the mean large request: as the agent counts it.
MEAN_STEPS = 60
# Nothing large was asked for yet: more room than anybody needs.
NO_REQUEST_RATIO = 1e9
LEAST_AUC = 0.90
LEAST_ATTRIBUTION = 0.95
CASES_PER_CAUSE = 300
SLOW_ENDS = 24
HEALTHY_DAYS = 14


@dataclass(frozen=True, slots=True)
class Step:
    """Scores of one step, higher is safer, and the errors so far."""

    headroom_ratio: float
    gap: float
    gap_ratio: float
    ooms: int


def state_of(allocator: CachingAllocator, *, expandable: bool) -> AllocatorState:
    stats = allocator.memory_stats()

    def now(name: str) -> int:
        return int(stats[name]["all"]["current"])

    return AllocatorState(
        now("reserved_bytes"), now("active_bytes"), now("inactive_split_bytes"), expandable
    )


def run(workload: str, config: str, device_gib: int, seed: int) -> list[Step]:
    """Return what each step of one run shows."""
    device = FixedDevice(device_gib * GIB)
    options = AllocatorConfig.parse(config)
    allocator = CachingAllocator(device, options)
    name = f"{workload}/{config}/{device_gib}/{seed}"
    chance = random.Random(name)
    work = Workload(allocator, chance, load=chance.uniform(0.3, 1.6))
    large: deque[tuple[int, int]] = deque(maxlen=MEAN_STEPS)
    steps = []
    for _ in range(STEPS):
        WORKLOADS[workload](work)
        stats = allocator.memory_stats()
        large.append(
            (
                stats["allocation"]["large_pool"]["allocated"],
                stats["allocated_bytes"]["large_pool"]["allocated"],
            )
        )
        state = state_of(allocator, expandable=options.expandable_segments)
        mean = mean_large_request(large)
        headroom = headroom_safe(state, device.free_bytes)
        gap = state.reserved - stats["allocated_bytes"]["all"]["current"]
        steps.append(
            Step(
                headroom / mean if mean else NO_REQUEST_RATIO,
                -gap,
                -gap / max(1, state.reserved),
                stats["num_ooms"],
            )
        )
    return steps


def labels(steps: Sequence[Step]) -> list[bool]:
    """Return per step whether an error comes within the horizon."""
    last = len(steps) - 1
    return [steps[min(last, at + HORIZON_STEPS)].ooms > steps[at].ooms for at in range(len(steps))]


def auc(scores: Sequence[float], bad: Sequence[bool]) -> float:
    """Return the chance that a step before an error scores lower than one that is not."""
    ranked = sorted(zip(scores, bad, strict=True))
    positives = sum(bad)
    negatives = len(ranked) - positives
    above, seen_bad = 0.0, 0
    for _, ties in groupby(ranked, key=lambda pair: pair[0]):
        marks = [mark for _, mark in ties]
        bad_here = sum(marks)
        above += (len(marks) - bad_here) * (seen_bad + bad_here / 2)
        seen_bad += bad_here
    return above / (positives * negatives) if positives and negatives else float("nan")


def predict(seeds: range) -> Iterator[Figure]:
    found: list[Step] = []
    bad: list[bool] = []
    by_workload: dict[str, tuple[list[Step], list[bool]]] = {}
    for workload, config, gib, seed in product(WORKLOADS, CONFIGS, DEVICES_GIB, seeds):
        steps = run(workload, config, gib, seed)
        marks = labels(steps)
        found += steps
        bad += marks
        mine = by_workload.setdefault(workload, ([], []))
        mine[0].extend(steps)
        mine[1].extend(marks)
    yield Figure("samples", len(found), "steps")
    yield Figure("samples before an error", 100 * sum(bad) / len(bad), "%")
    score = auc([step.headroom_ratio for step in found], bad)
    yield Figure("AUC of headroom_safe / mean request", score, "", LEAST_AUC, at_least=True)
    for name, (steps, marks) in by_workload.items():
        yield Figure(f"  of them {name}", auc([s.headroom_ratio for s in steps], marks), "")
    for limit in (8, 16, 24):
        warned = [step.headroom_ratio < limit for step in found]
        hit = sum(w and b for w, b in zip(warned, bad, strict=True)) / max(1, sum(bad))
        false = sum(w and not b for w, b in zip(warned, bad, strict=True))
        yield Figure(f"  below {limit}: found", 100 * hit, "%")
        yield Figure(
            f"  below {limit}: false alarm", 100 * false / max(1, len(bad) - sum(bad)), "%"
        )
    # Larger gap, more danger: what those assume who watch it.
    yield Figure("AUC of reserved - allocated", auc([step.gap for step in found], bad), "")
    ratios = [step.gap_ratio for step in found]
    yield Figure("AUC of (reserved - allocated) / reserved", auc(ratios, bad), "")


@dataclass(frozen=True, slots=True)
class Case:
    """One failed request: what the agent says, and what the experiment showed."""

    said: Attribution
    true: Attribution


def cases(seed: int) -> Iterator[Case]:
    """Yield the failed requests of two processes that share a device."""
    chance = random.Random(f"attribution/{seed}")
    device = FixedDevice(2 * GIB)
    mine, other = CachingAllocator(device), CachingAllocator(device)
    live: list[Block] = []
    theirs: list[Block] = []
    # What the neighbour keeps in its cache differs from hardly anything to half of the device.
    other_share = chance.uniform(0.0, 0.6)
    for _ in range(200):
        if other.memory_stats()["reserved_bytes"]["all"]["current"] < other_share * 2 * GIB:
            with suppress(OutOfMemory):
                theirs.append(other.malloc(chance.randrange(2, 96) * MIB))
        elif theirs and chance.random() < 0.7:
            other.free(theirs.pop(chance.randrange(len(theirs))))
        if live and chance.random() < 0.45:
            mine.free(live.pop(chance.randrange(len(live))))
            continue
        size = chance.choice((3, 17, 40, 90, 200, 420)) * MIB + chance.randrange(MIB)
        try:
            live.append(mine.malloc(size))
        except OutOfMemory:
            yield judge(mine, other, device, live, size)


def judge(
    mine: CachingAllocator,
    other: CachingAllocator,
    device: FixedDevice,
    live: Sequence[Block],
    size: int,
) -> Case:
    state = state_of(mine, expandable=False)
    beside = state_of(other, expandable=False)
    said = attribute(
        # What torch tells an observer: the segment that it would have needed.
        request=segment_size(AllocatorConfig().round_size(size)),
        device_free=device.free_bytes,
        free=state.free,
        releasable=state.releasable,
        neighbours_releasable=beside.releasable,
    )
    if fits_anew(device.total_bytes - beside.reserved, live, size):
        return Case(said, Attribution.FRAGMENTATION)
    other.empty_cache()
    try:
        mine.free(mine.malloc(size))
    except OutOfMemory:
        return Case(said, Attribution.CAPACITY)
    return Case(said, Attribution.NEIGHBOUR)


def fits_anew(total_bytes: int, live: Sequence[Block], size: int) -> bool:
    """Return whether all that is in use and the request fit into an empty device.

    With torch's default or with expandable segments: the two things that one would try.
    """
    sizes = sorted((*(block.requested for block in live), size), reverse=True)
    return any(_fit(total_bytes, sizes, config) for config in CONFIGS[:2])


def _fit(total_bytes: int, sizes: Sequence[int], config: str) -> bool:
    fresh = CachingAllocator(FixedDevice(total_bytes), AllocatorConfig.parse(config))
    try:
        for size in sizes:
            fresh.malloc(size)
    except OutOfMemory:
        return False
    return True


def name_causes(wanted: int) -> Iterator[Figure]:
    """Draw cases until there are ``wanted`` of each cause; yield how many were named rightly."""
    drawn: Counter[Attribution] = Counter()
    right: Counter[Attribution] = Counter()
    seed = FIRST_SEED
    while any(drawn[cause] < wanted for cause in Attribution) and seed < FIRST_SEED + 20 * wanted:
        for case in cases(seed):
            drawn[case.true] += 1
            right[case.true] += case.said is case.true
        seed += 1
    for cause in Attribution:
        yield Figure(
            f"{cause} named rightly, of {drawn[cause]}",
            100 * right[cause] / max(1, drawn[cause]),
            "%",
            100 * LEAST_ATTRIBUTION,
            at_least=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed: figures not to be quoted")
    quick = parser.parse_args().quick
    seeds = range(FIRST_SEED, FIRST_SEED + (1 if quick else SEEDS))
    figures = [
        *predict(seeds),
        *name_causes(20 if quick else CASES_PER_CAUSE),
        *slow_ends(FIRST_SEED, 3 if quick else SLOW_ENDS),
        *healthy(FIRST_SEED, 1 if quick else HEALTHY_DAYS),
    ]
    print(table(figures))
    missed = [figure.name for figure in figures if figure.is_missed]
    if missed:
        print(f"missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
