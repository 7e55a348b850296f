"""One case to live, as it is handed to another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis_life import live, live_quietly

if TYPE_CHECKING:
    from diagnosis_life import Lived

QUIET_GPUS = 4
# Every third case runs on the other simulator.
FLUID_EVERY = 3


@dataclass(frozen=True, slots=True)
class Job:
    """A case to live: ``part`` says which table it belongs to."""

    part: str
    names: tuple[str, ...]
    severity: int
    seed: int
    hours: float = 0.0

    @property
    def weight(self) -> float:
        """What it costs, by a case with a fault; an hour of a quiet node costs five."""
        return 5.0 * self.hours or 1.0

    @property
    def is_fluid(self) -> bool:
        """Whether it runs on the other simulator."""
        return (self.seed + self.severity) % FLUID_EVERY == 0

    def run(self) -> Lived:
        fluid = self.is_fluid
        if self.hours:
            return live_quietly(self.names, self.seed, self.hours, QUIET_GPUS, fluid=fluid)
        return live(self.names, self.severity, self.seed, fluid=fluid)
