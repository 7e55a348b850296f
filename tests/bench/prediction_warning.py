"""How long before a slow end the agent warns: leaks, and adapters that stay where they fell.

Each run serves well for a quarter of an hour; then something goes slowly wrong until a request
fails, an hour to some hours later.  A warning is in time when it was raised five minutes before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prediction_seen import Published, Seen
from prediction_workloads import GIB, MIB, WORKLOADS, Workload

from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60
START_S = 15 * MINUTE
LONGEST_S = 6 * 60 * MINUTE
AHEAD_S = 5 * MINUTE
DEVICE_GIB = 16


@dataclass(slots=True)
class Ended:
    """One run: when its first request failed, and when each warning was first raised."""

    cause: str
    at_s: int | None = None
    first: dict[str, int] = field(default_factory=dict)

    def ahead_s(self, *warnings: str) -> int:
        """Return how long before the end the first of ``warnings`` came, 0 if none did."""
        raised = [self.first[name] for name in warnings if name in self.first]
        return self.at_s - min(raised) if raised and self.at_s is not None else 0


def leak(work: Workload, seed: int) -> None:
    """Keep a little of every step for ever: tensors that somebody forgets."""
    size = int((0.4 + seed % 5 * 0.25) * MIB)
    work.take([int(work.random.uniform(0.5, 1.5) * size)])


def adapters(work: Workload, seed: int) -> None:
    """Load an adapter in the middle of a prefill, and never unload it."""
    if work.random.random() < 0.012 + 0.006 * (seed % 3):
        prefill = work.take([work.random.randrange(200, 900) * MIB])
        work.take([work.random.randrange(24, 64) * MIB])
        work.give_back(prefill)


CAUSES: dict[str, Callable[[Workload, int], None]] = {"leak": leak, "fragmentation": adapters}


def run(cause: str, seed: int, device_gib: int = DEVICE_GIB) -> Ended:
    """Serve until a request fails, or for hours."""
    workload = list(WORKLOADS)[seed % len(WORKLOADS)]
    chance = random.Random(f"warning/{cause}/{seed}")
    device = FixedDevice(device_gib * GIB)
    tap = Published("server", 1, 0.0, device, AllocatorConfig())
    work = Workload(tap.allocator, chance, load=chance.uniform(0.2, 0.6))
    seen, ended = Seen(device), Ended(cause)
    for second in range(1, LONGEST_S + 1):
        WORKLOADS[workload](work)
        if second >= START_S:
            CAUSES[cause](work, seed)
        for name in seen.look([tap], float(second)):
            ended.first.setdefault(name, second)
        if tap.ooms:
            ended.at_s = second
            break
    return ended
