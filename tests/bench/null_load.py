"""What a healthy service does to its GPUs, second by second: days, bursts, restarts, deploys.

Load is in shares of what the service can take; a burst may ask for more, and then requests wait,
which is no fault of the node.  The course of a day is that of the benchmark of prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prediction_healthy import DAY, Traffic

if TYPE_CHECKING:
    import random

# Deploys, and restarts by hand; each is a process that goes and another that comes.
RESTARTS_A_DAY = 1.5
DOWN_S = (5, 40)
LOADING_S = (30, 180)
BACKLOG = 40.0
BATCH = 128.0
TOKENS_PER_SECOND = 3_000.0
TAPPED_RATIO = 0.5


@dataclass(slots=True)
class Service:
    """One engine of a service; ``up_at`` is when the engine that is coming has its model."""

    name: str
    # What its process goes by, and the engine's page.
    unit: str
    gpus: tuple[int, ...]
    random: random.Random
    traffic: Traffic = field(init=False)
    number: int = 0
    down_until: int = 0
    up_at: int = 0
    load: float = 0.0
    waiting: float = 0.0
    requests: float = 0.0
    late: float = 0.0
    tokens: float = 0.0
    restarts: int = 0
    # Whether this engine has a tap.  It goes with the engine; an engine that comes back without
    # the tap that it had is no healthy node, and gpu.memory.coverage_fell says so.
    is_tapped: bool = False

    def __post_init__(self) -> None:
        self._start(0, down_s=0)

    def step(self, second: int) -> None:
        if self.random.random() < RESTARTS_A_DAY / DAY:
            self.restart(second)
        if second < self.up_at:
            self.load = 0.0
            return
        asked = self.traffic.load(second)
        done = min(1.0, asked + self.waiting / 60.0)
        self.waiting = max(0.0, self.waiting + 3.0 * (asked - done))
        self.load = done
        finished = 8.0 * done
        self.requests += finished
        self.late += finished * (0.3 if self.waiting > BATCH / 10 else 0.01)
        self.tokens += TOKENS_PER_SECOND * done

    @property
    def shown_waiting(self) -> float:
        return float(int(self.waiting) + (self.random.random() < 0.1 * self.load))

    @property
    def running(self) -> float:
        return float(int(BATCH * self.load))

    def restart(self, second: int, down_s: int | None = None) -> None:
        """End the engine; another comes, loads its model, and finds those who waited."""
        self.restarts += 1
        self._start(second, self.random.randrange(*DOWN_S) if down_s is None else down_s)
        self.waiting = self.random.uniform(0.0, BACKLOG)

    def _start(self, second: int, down_s: int) -> None:
        chance = self.random
        self.number += 1
        self.down_until = second + down_s
        self.up_at = self.down_until + chance.randrange(*LOADING_S)
        # Counters are the engine's own.
        self.requests = self.late = self.tokens = 0.0
        self.load = 0.0
        self.is_tapped = self.is_tapped or chance.random() < TAPPED_RATIO
        self.traffic = Traffic(
            chance, peak=chance.uniform(0.3, 0.95), night=chance.choice((0.0, 0.02, 0.1, 0.3))
        )

    def is_there(self, second: int) -> bool:
        return second >= self.down_until

    def is_up(self, second: int) -> bool:
        return second >= self.up_at

    def loaded(self, second: int) -> float:
        """Return the share of its memory that the engine has taken so far."""
        loading_s = max(1, self.up_at - self.down_until)
        return min(1.0, max(0.0, (second - self.down_until) / loading_s))
