"""How often the agent warns of nothing: weeks of serving in which no request fails.

Traffic has days and quiet nights, and bursts of minutes; processes start with their weights, keep
more as they get warm up to a bound, restart, and come back with another configuration and another
load; on half of the cards a batch job comes and goes.  A card on which a request failed is told,
and left out with its warnings: they may have been right.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prediction_seen import Published, Seen
from prediction_workloads import GIB, MIB, WORKLOADS, Workload

from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice

if TYPE_CHECKING:
    from gpuward.simulator.allocator_blocks import Block

HOUR = 3_600
DAY = 24 * HOUR
CONFIGS = (
    "",
    "",
    "expandable_segments:True",
    "roundup_power2_divisions:8",
    "max_split_size_mb:256",
)
DEVICES_GIB = (12, 16, 24)
TURN_S = 600
# With less load there are seconds without any request.
QUIET = 0.1
# Load at noon that a card of 16 GiB takes, bursts included.
PEAKS = {"paged": 0.5, "growing": 0.45, "diffusion": 0.4}


@dataclass(slots=True)
class Lived:
    """What came of one card: what it did, and how often each warning was raised."""

    shape: str
    seconds: int = 0
    ooms: int = 0
    restarts: int = 0
    visits: int = 0
    bursts: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Traffic:
    """Load by the second: a day's curve, a wandering factor, bursts."""

    random: random.Random
    peak: float
    night: float
    burst_until: int = 0
    burst: float = 1.0
    wander: float = 1.0
    bursts: int = 0

    def load(self, second: int) -> float:
        if second % TURN_S == 0:
            self.wander = min(1.3, max(0.7, self.wander + self.random.gauss(0.0, 0.08)))
            if self.random.random() < 1 / 60:
                self.bursts += 1
                self.burst_until = second + self.random.randrange(5 * 60, 40 * 60)
                self.burst = self.random.uniform(1.3, 2.0)
        noon = 0.5 - 0.5 * math.cos(2 * math.pi * (second % DAY) / DAY)
        share = self.night + (1.0 - self.night) * noon**1.5
        burst = self.burst if second < self.burst_until else 1.0
        return self.peak * share * self.wander * burst


@dataclass(slots=True)
class Warmth:
    """What a process keeps for ever as it gets warm: workspaces of what it compiles, a cache."""

    random: random.Random
    bound: int
    pace_s: float
    kept: int = 0

    def step(self, work: Workload) -> None:
        if self.kept < self.bound and self.random.random() < 1 / self.pace_s:
            size = self.random.randrange(1, 16) * MIB
            work.take([size])
            self.kept += size


@dataclass(slots=True)
class BatchJob:
    """Comes twice a day where there is room, takes its memory in a ramp, keeps it, and goes."""

    random: random.Random
    device: FixedDevice
    most: int
    tap: Published | None = None
    held: list[Block] = field(default_factory=list)
    until: int = 0
    visits: int = 0

    def step(self, second: int) -> bool:
        """Come, take, or go; return whether nothing of it happened in this second."""
        if self.tap is None:
            if self.random.random() < 2 / DAY and self.device.free_bytes > self.most + GIB:
                self.tap = Published("batch", 9, second, self.device, AllocatorConfig())
                self.until = second + self.random.randrange(HOUR, 3 * HOUR)
                self.visits += 1
            return self.tap is None
        if second >= self.until:
            self.tap.end()
            self.tap, self.held = None, []
            return False
        is_full = sum(block.size for block in self.held) >= self.most
        if second % 5 or is_full or self.device.free_bytes <= 256 * MIB:
            return True
        self.held.append(self.tap.allocator.malloc(self.random.randrange(8, 96) * MIB))
        return False


@dataclass(slots=True)
class Service:
    """A server over its restarts: each time with the same work and perhaps another set-up."""

    random: random.Random
    device: FixedDevice
    shape: str
    traffic: Traffic = field(init=False)
    warmth: Warmth = field(init=False)
    work: Workload = field(init=False)
    tap: Published = field(init=False)
    # A busy second in so many.
    pace_s: int = 1

    def start(self, second: int) -> None:
        chance = self.random
        config = AllocatorConfig.parse(chance.choice(CONFIGS))
        self.tap = Published("server", 1, second, self.device, config)
        self.work = Workload(self.tap.allocator, chance, load=0.0)
        room = self.device.total_bytes / (16 * GIB)
        self.traffic = Traffic(
            chance,
            peak=PEAKS[self.shape] * room * chance.uniform(0.5, 1.0),
            night=chance.choice((0.0, 0.02, 0.1, 0.3)),
        )
        bound = chance.choice((128, 256, 512, 1024)) * MIB
        self.warmth = Warmth(chance, bound, pace_s=chance.uniform(2.0, 60.0))
        self.pace_s = chance.choice((1, 2, 4))

    def step(self, second: int) -> bool:
        """Serve for a second; return whether there was anything to do."""
        load = self.traffic.load(second)
        is_busy = load >= QUIET or self.random.random() < load / QUIET
        if second % self.pace_s or not is_busy:
            return False
        self.work.load = load
        WORKLOADS[self.shape](self.work)
        self.warmth.step(self.work)
        return True


def live(seed: int, days: float, calm_every_s: int | None = None) -> Lived:
    """Serve for ``days`` on one card, and return what the agent said."""
    chance = random.Random(f"healthy/{seed}")
    device = FixedDevice(chance.choice(DEVICES_GIB) * GIB)
    shape = list(WORKLOADS)[seed % len(WORKLOADS)]
    seen, lived = Seen(device), Lived(shape)
    if calm_every_s is not None:
        seen.calm_every_s = calm_every_s
    service = Service(chance, device, shape)
    service.start(0)
    job = BatchJob(chance, device, chance.randrange(512, 1536) * MIB)
    for second in range(1, int(days * DAY) + 1):
        if chance.random() < 0.7 / DAY:
            lived.bursts += service.traffic.bursts
            lived.restarts += 1
            service.tap.end()
            service.start(second)
        idle = not service.step(second) and second > 1
        if seed % 2:
            idle &= job.step(second)
        taps = [tap for tap in (service.tap, job.tap) if tap is not None]
        lived.warnings.update(seen.look(taps, float(second), idle=idle))
        lived.seconds, lived.ooms = second, sum(tap.ooms for tap in taps)
        if lived.ooms:
            break
    lived.bursts, lived.visits = lived.bursts + service.traffic.bursts, job.visits
    return lived
