"""Whether the cause of an out-of-memory error is named rightly: the agent against an experiment.

What the agent says comes by its own way: torch's observer, the tap's record, the event, the
verdict; of neighbours it knows what their taps said at the end of that second.  What is true is
found out without any of its arithmetic, on the state in which the request failed:

* compaction: every live block is laid anew, side by side, into an empty allocator with as much
  memory as neighbours leave, and the request behind them.  It fits: **fragmentation**.
* else the neighbours' caches are emptied (``empty_cache()``, in a forked copy of everything) and
  the same request is made again.  It succeeds: **neighbour**.
* else **capacity**: neither alone would have helped.

Fragmentation comes first because the process can mend it alone.  Neighbours all have a tap; what
the agent cannot see is the subject of ``gpu.memory.unattributed`` and of coverage.
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prediction_seen import published, reserved
from prediction_workloads import GIB, MIB

from gpuward.agent.fragmentation_oom import Attribution, verdict
from gpuward.agent.model import Process
from gpuward.agent.samplers.tap_samples import allocator_state, oom_event
from gpuward.simulator.allocator import CachingAllocator, OutOfMemory
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
from gpuward.tap import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuward.agent.samplers.tap_samples import Reading
    from gpuward.simulator.allocator_blocks import Block

CONFIGS = (
    "",
    "expandable_segments:True",
    "roundup_power2_divisions:8",
    "max_split_size_mb:256",
)
DEVICES_GIB = (2, 4, 8)
SECONDS = 120
VICTIM = Process("victim", 1, 1)
# Medians of what a process asks for, MiB, and how far it scatters: prefills, images, mixed tensors.
SIZES = ((90.0, 1.0), (24.0, 0.8), (6.0, 1.6))


@dataclass(frozen=True, slots=True)
class Case:
    """One failed request: what the agent says, and what the experiment showed."""

    config: str
    said: Attribution | None
    true: Attribution
    # Of fragmentation: a restart under the same configuration would have been enough.
    restart_helps: bool


@dataclass(slots=True)
class Tenant:
    """A process that takes and gives back at random, up to ``share`` of the device."""

    allocator: CachingAllocator
    expandable: bool
    random: random.Random
    median_mib: float
    sigma: float
    most: int
    share: float
    # How often a neighbour's burst ends, a turn; how often something very large is asked for.
    lets_go: float
    rush: float
    live: list[Block] = field(default_factory=list)

    def size(self) -> int:
        if self.random.random() < self.rush:
            return int(self.random.uniform(0.3, 2.0) * self.most)
        size = self.random.lognormvariate(0.0, self.sigma) * self.median_mib * MIB
        return int(min(self.most, max(4096, size)))

    def give_back(self, share: float) -> None:
        for _ in range(int(share * len(self.live))):
            self.allocator.free(self.live.pop(self.random.randrange(len(self.live))))


@dataclass(slots=True)
class Card:
    """A victim and its neighbours on one device."""

    device: FixedDevice
    config: AllocatorConfig
    victim: Tenant
    others: list[Tenant]
    # What torch's observer was told of each failed request: bytes asked for, bytes free.
    told: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.victim.allocator.attach_out_of_memory_observer(
            lambda _index, asked, _total, free: self.told.append((asked, free))
        )

    def compacted_fits(self, size: int) -> bool:
        """Lay all live blocks anew, as large as they are, and the request behind them."""
        fresh = CachingAllocator(self._emptied(), AllocatorConfig(expandable_segments=True))
        blocks = sorted(self.victim.live, key=lambda block: block.address)
        return serves(fresh, [*(block.size for block in blocks), self.config.round_size(size)])

    def restarted_fits(self, size: int) -> bool:
        """Start the victim anew under its own configuration, with the same tensors."""
        fresh = CachingAllocator(self._emptied(), self.config)
        return serves(fresh, [*(block.requested for block in self.victim.live), size])

    def _emptied(self) -> FixedDevice:
        """Return the device without the victim: what neighbours hold stays in use."""
        held = self.device.used_bytes - reserved(self.victim.allocator)
        return FixedDevice(self.device.total_bytes, used_bytes=held)

    def flushed_fits(self, size: int) -> bool:
        """Empty the neighbours' caches, and ask again."""
        for other in self.others:
            other.allocator.empty_cache()
        return serves(self.victim.allocator, [size])


def serves(allocator: CachingAllocator, sizes: Sequence[int]) -> bool:
    try:
        for size in sizes:
            allocator.malloc(size)
    except OutOfMemory:
        return False
    return True


def in_a_copy(experiment: Callable[[], bool]) -> bool:
    """Return what ``experiment`` shows in a fork of this process: here nothing has happened."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = 0 if experiment() else 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in {0, 1}:
        raise RuntimeError("the experiment failed in its copy")
    return status == 0


def truth(card: Card, size: int) -> Attribution:
    if card.compacted_fits(size):
        return Attribution.FRAGMENTATION
    if in_a_copy(lambda: card.flushed_fits(size)):
        return Attribution.NEIGHBOUR
    return Attribution.CAPACITY


def card_of(config: str, chance: random.Random) -> Card:
    """Return a device with its tenants; how many and how greedy they are is drawn."""
    device = FixedDevice(chance.choice(DEVICES_GIB) * GIB)

    def tenant(options: AllocatorConfig, share: float) -> Tenant:
        median, sigma = chance.choice(SIZES)
        median *= device.total_bytes / (4 * GIB)
        most = device.total_bytes // 4
        allocator = CachingAllocator(device, options)
        expandable, lets_go = options.expandable_segments, chance.uniform(0.0, 0.08)
        rush = chance.choice((0.0, 0.0, 0.03, 0.1))
        return Tenant(allocator, expandable, chance, median, sigma, most, share, lets_go, rush)

    options = AllocatorConfig.parse(config)
    victim = tenant(options, chance.uniform(0.3, 1.1))
    others = [
        tenant(AllocatorConfig.parse(chance.choice(CONFIGS)), chance.uniform(0.05, 0.3))
        for _ in range(chance.randrange(4))
    ]
    return Card(device, options, victim, others)


def cases(config: str, seed: int) -> Iterator[Case]:
    """Yield the failed requests of two minutes, of each second the last, as a tap tells them."""
    chance = random.Random(f"attribution/{config}/{seed}")
    card = card_of(config, chance)
    for second in range(1, SECONDS + 1):
        failed: tuple[layout.OutOfMemory, Attribution, bool] | None = None
        for _ in range(chance.randrange(2, 12)):
            for other in card.others:
                stir(other, card.device)
            failed = step(card, second) or failed
        if failed is not None:
            oom, true, helps = failed
            yield Case(config, said(card, oom, second), true, helps)


def stir(other: Tenant, device: FixedDevice) -> None:
    """A neighbour fills its share in bursts; between them its cache keeps what is not in use."""
    if other.random.random() < 0.06:
        other.give_back(other.random.uniform(0.5, 1.0))
    elif reserved(other.allocator) < other.share * device.total_bytes:
        with suppress(OutOfMemory):
            other.live.append(other.allocator.malloc(other.size()))


def step(card: Card, second: int) -> tuple[layout.OutOfMemory, Attribution, bool] | None:
    """Let the victim ask or give back once; return its error and the cause, if it failed."""
    victim = card.victim
    full = sum(block.size for block in victim.live) >= victim.share * card.device.total_bytes
    if victim.live and victim.random.random() < (0.7 if full else 0.4):
        victim.give_back(1 / len(victim.live))
        return None
    size = victim.size()
    try:
        victim.live.append(victim.allocator.malloc(size))
    except OutOfMemory:
        asked, free = card.told[-1]
        stats = victim.allocator.memory_stats()
        oom = layout.OutOfMemory(
            second * 1_000_000_000,
            asked,
            free,
            stats["reserved_bytes"]["all"]["current"],
            stats["active_bytes"]["all"]["current"],
        )
        cause = truth(card, size)
        helped = cause is Attribution.FRAGMENTATION and card.restarted_fits(size)
        # An engine drops requests after an error, and goes on.
        victim.give_back(victim.random.uniform(0.0, 0.3))
        return oom, cause, helped
    return None


def said(card: Card, oom: layout.OutOfMemory, second: int) -> Attribution | None:
    """Return what the agent makes of ``oom`` when it reads the taps at the end of the second."""

    def reading(of: Tenant, error: layout.OutOfMemory | None = None) -> Reading:
        return published(of.allocator, second, expandable=of.expandable, oom=error)

    beside = sum(allocator_state(reading(other).record).releasable for other in card.others)
    return verdict(
        oom_event("tap", reading(card.victim, oom), VICTIM, neighbours_releasable=beside)
    )


def all_cases(config: str, seed: int) -> list[Case]:
    return list(cases(config, seed))
