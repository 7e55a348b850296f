"""How long before a slow end the agent warns, and how often it warns of nothing.

A warning is `process.memory.headroom_low` with a time at which the room is gone, as the agent tells
it: room for less than 24 mean requests in three samples, and a fall of the minutes' floors that is
certain.  Beside it `process.memory.leak_suspected`.  The ends are slow leaks and adapters that stay
where they fell, one to four hours long; the healthy processes serve for days at a load that fits.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from figures import Figure
from prediction_workloads import GIB, MIB, WORKLOADS, Workload

from gpuward.agent.fragmentation import AllocatorState, headroom_safe, mean_large_request
from gpuward.agent.fragmentation_trend import forecast, trend_of
from gpuward.agent.model import Sample, SeriesKey
from gpuward.simulator.allocator import CachingAllocator
from gpuward.simulator.allocator_device import FixedDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = SeriesKey("process_memory_headroom_floor_bytes", gpu="GPU-1", process="bench")
MINUTE = 60
START_MINUTES = 15
LONGEST = 4 * 60 * MINUTE
AHEAD = 5 * MINUTE
DAY = 86_400
LOW_RATIO = 24.0
LEAST_RISE = 256 * MIB
LEAST_RECALL = 0.5
MOST_FALSE_A_WEEK = 1.0


@dataclass(slots=True)
class Watched:
    """One process on a device of its own, seen as the agent sees it: once a step."""

    workload: str
    seed: int
    device_gib: int
    load: tuple[float, float]
    step: int = 0
    headroom_floors: list[Sample] = field(default_factory=list)
    requested_floors: list[Sample] = field(default_factory=list)
    # Steps at which each warning was there, one a minute.
    warned: dict[str, list[int]] = field(default_factory=lambda: {"headroom": [], "leak": []})
    work: Workload = field(init=False)
    device: FixedDevice = field(init=False)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"warning/{self.workload}/{self.seed}")
        self.device = FixedDevice(self.device_gib * GIB)
        allocator = CachingAllocator(self.device)
        self.work = Workload(allocator, self.chance, load=self.chance.uniform(*self.load))

    def run(self, steps: int, disturb: Callable[[Watched], None] | None = None) -> int | None:
        """Serve for ``steps``; return the step of the first error, if there was one."""
        large: deque[tuple[int, int]] = deque(maxlen=MINUTE)
        headrooms: deque[int] = deque(maxlen=MINUTE)
        requested: deque[int] = deque(maxlen=MINUTE)
        ratios: deque[float] = deque(maxlen=3)
        for self.step in range(steps):
            WORKLOADS[self.workload](self.work)
            if disturb is not None and self.step >= START_MINUTES * MINUTE:
                disturb(self)
            stats = self.work.allocator.memory_stats()
            if stats["num_ooms"]:
                return self.step
            large.append(
                (
                    stats["allocation"]["large_pool"]["allocated"],
                    stats["allocated_bytes"]["large_pool"]["allocated"],
                )
            )
            headroom = headroom_safe(_state(stats), self.device.free_bytes)
            headrooms.append(headroom)
            requested.append(stats["requested_bytes"]["all"]["current"])
            if self.step % MINUTE != MINUTE - 1:
                if self.step % MINUTE >= MINUTE - 4:
                    mean = mean_large_request(large)
                    ratios.append(headroom / mean if mean else LOW_RATIO)
                continue
            self._floors(min(headrooms), min(requested))
            self._judge(max(ratios))
        return None

    def _floors(self, headroom: int, requested: int) -> None:
        if self.step < START_MINUTES * MINUTE:
            return
        self.headroom_floors.append(Sample(KEY, float(self.step), float(headroom)))
        self.requested_floors.append(Sample(KEY, float(self.step), float(requested)))

    def _judge(self, lasting_ratio: float) -> None:
        if lasting_ratio < LOW_RATIO and forecast(self.headroom_floors[-60:]):
            self.warned["headroom"].append(self.step)
        trend = trend_of(self.requested_floors[-60:])
        if trend is not None and trend.sure_rise >= LEAST_RISE:
            self.warned["leak"].append(self.step)


def _state(stats: dict[str, dict[str, dict[str, int]]]) -> AllocatorState:
    return AllocatorState(
        stats["reserved_bytes"]["all"]["current"],
        stats["active_bytes"]["all"]["current"],
        stats["inactive_split_bytes"]["all"]["current"],
    )


def leak(watched: Watched) -> None:
    """Keep a little of every step for ever: tensors that somebody forgets."""
    size = int((0.4 + watched.seed % 5 * 0.25) * MIB)
    watched.work.take([int(watched.chance.uniform(0.5, 1.5) * size)])


def adapters(watched: Watched) -> None:
    """Load an adapter in the middle of a prefill, and never unload it."""
    if watched.chance.random() < 0.012 + 0.006 * (watched.seed % 3):
        prefill = watched.work.take([watched.chance.randrange(200, 900) * MIB])
        watched.work.take([watched.chance.randrange(24, 64) * MIB])
        watched.work.give_back(prefill)


def slow_ends(first_seed: int, runs: int) -> Iterator[Figure]:
    """Yield how many of each slow end were foretold at least five minutes ahead."""
    for name, disturb in (("leak", leak), ("fragmentation", adapters)):
        ended = 0
        foretold = dict.fromkeys(("headroom", "leak", "either"), 0)
        for seed in range(first_seed, first_seed + runs):
            workload = list(WORKLOADS)[seed % len(WORKLOADS)]
            watched = Watched(workload, seed, 16, (0.2, 0.6))
            error = watched.run(LONGEST, disturb)
            if error is None or error < START_MINUTES * MINUTE:
                continue
            ended += 1
            in_time = {
                kind: any(at <= error - AHEAD for at in steps)
                for kind, steps in watched.warned.items()
            }
            in_time["either"] = any(in_time.values())
            for kind, hit in in_time.items():
                foretold[kind] += hit
        share = {kind: 100 * hits / max(1, ended) for kind, hits in foretold.items()}
        yield Figure(
            f"slow ends by {name} foretold, of {ended}",
            share["either"],
            "%",
            100 * LEAST_RECALL,
            at_least=True,
        )
        yield Figure("  by headroom and its time", share["headroom"], "%")
        yield Figure("  by a suspected leak", share["leak"], "%")


def healthy(first_seed: int, days: int) -> Iterator[Figure]:
    """Yield how many warnings there were in days of serving that ended well."""
    begun = {"headroom": 0, "leak": 0}
    steps = ended = 0
    for seed in range(first_seed, first_seed + days):
        workload = list(WORKLOADS)[seed % len(WORKLOADS)]
        watched = Watched(workload, seed, 16, (0.2, 0.6))
        ended += watched.run(DAY) is not None
        steps += watched.step + 1
        for kind, warned in watched.warned.items():
            # Apart by an hour, they are two.
            begun[kind] += sum(
                at - before > 60 * MINUTE for before, at in pairwise([-LONGEST, *warned])
            )
    weeks = steps / DAY / 7
    yield Figure("healthy serving", steps / DAY, "process-days")
    yield Figure("  that ran out of memory", ended, "runs")
    yield Figure(
        "  false warnings by headroom",
        begun["headroom"] / weeks,
        "a process-week",
        MOST_FALSE_A_WEEK,
    )
    yield Figure("  false leaks", begun["leak"] / weeks, "a process-week", MOST_FALSE_A_WEEK)
