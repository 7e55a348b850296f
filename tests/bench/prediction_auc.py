"""How well headroom foretells an out-of-memory error: one ROC curve over runs of every kind.

Every run of the replica gives a sample a step, with what the tap's counters show: no walk over the
blocks.  The label is an out-of-memory error within the next ten steps.  One curve over all runs, so
one threshold for every workload, device and configuration, beside what others watch: reserved minus
allocated.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from prediction_workloads import GIB, WORKLOADS, Workload

from gpuward.agent.fragmentation import AllocatorState, LargeRequests, headroom_safe
from gpuward.simulator.allocator import CachingAllocator
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIGS = (
    "",
    "expandable_segments:True",
    "roundup_power2_divisions:8",
    "max_split_size_mb:256",
)
DEVICES_GIB = (7, 9, 12)
STEPS = 300
HORIZON_STEPS = 10
# Of the mean large request: as the agent counts it.
MEAN_STEPS = 60
# Nothing large was asked for yet: more room than anybody needs.
NO_REQUEST_RATIO = 1e9


@dataclass(frozen=True, slots=True)
class Step:
    """Scores of one step, higher is safer, and the errors so far."""

    headroom_ratio: float
    gap: float
    gap_ratio: float
    ooms: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its steps, and whether an error comes within the horizon of each."""

    workload: str
    config: str
    steps: list[Step]
    bad: list[bool]


def run(workload: str, config: str, device_gib: int, seed: int) -> Run:
    """Return what each step of one run shows, and what came of it."""
    device = FixedDevice(device_gib * GIB)
    options = AllocatorConfig.parse(config)
    allocator = CachingAllocator(device, options)
    chance = random.Random(f"{workload}/{config}/{device_gib}/{seed}")
    work = Workload(allocator, chance, load=chance.uniform(0.3, 1.6))
    large = LargeRequests()
    steps = []
    for step in range(STEPS):
        WORKLOADS[workload](work)
        stats = allocator.memory_stats()
        large.add(
            step,
            stats["allocation"]["large_pool"]["allocated"],
            stats["allocated_bytes"]["large_pool"]["allocated"],
        )
        large.forget_before(step + 1 - MEAN_STEPS)
        state = AllocatorState(
            stats["reserved_bytes"]["all"]["current"],
            stats["active_bytes"]["all"]["current"],
            stats["inactive_split_bytes"]["all"]["current"],
            options.expandable_segments,
        )
        mean = large.mean
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
    return Run(workload, config, steps, labels([step.ooms for step in steps]))


def labels(ooms: Sequence[int]) -> list[bool]:
    """Return per step whether the count of errors rises within the horizon."""
    last = len(ooms) - 1
    return [ooms[min(last, at + HORIZON_STEPS)] > ooms[at] for at in range(len(ooms))]


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


def shares(scores: Sequence[float], bad: Sequence[bool], limit: float) -> tuple[float, float]:
    """Return which share of the bad and of the good steps scores below ``limit``."""
    warned = [score < limit for score in scores]
    hits = sum(w and b for w, b in zip(warned, bad, strict=True))
    positives = sum(bad)
    return (
        hits / max(1, positives),
        (sum(warned) - hits) / max(1, len(bad) - positives),
    )
