"""When which probe of a device is due, and how much of the GPU's time is left for it.  Pure.

Short bursts often, copies seldom, each a little early or late so that nothing beats with the work
of an engine; ever seldomer after failures.  Whatever the schedule, a minute has 60 ms for probes,
a thousandth of the GPU: what was measured to be spent is not there for the next.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

PERIODS_S = {"latency": 10.0, "host_copy": 60.0, "device_copy": 60.0}
JITTER_RATIO = 0.2
LONGEST_S = 600.0
SPENT_OVER_S = 60.0
# 1 ms a second.
SPENT_AT_MOST_S = 0.06
# A burst takes less than this where nobody is in its way.
BURST_S = 0.003
# No burst may take more, whatever is left.
LONGEST_BURST_S = 0.02


@dataclass(slots=True)
class GpuTime:
    """What probes have taken of a GPU within the last minute, and what is left."""

    spent: deque[tuple[float, float]] = field(default_factory=deque)
    total_s: float = 0.0

    def spend(self, seconds: float, now_s: float) -> None:
        """Note that a burst took ``seconds``, by events on the GPU."""
        self.total_s += seconds
        self.spent.append((now_s, seconds))

    def left_s(self, now_s: float) -> float:
        """Return what may be spent now, less than 0 after a burst that took too much."""
        while self.spent and self.spent[0][0] <= now_s - SPENT_OVER_S:
            self.spent.popleft()
        return SPENT_AT_MOST_S - sum(seconds for _, seconds in self.spent)


@dataclass(slots=True)
class Schedule:
    """Due times of one device's probes; at first all are due at once, one after the other."""

    chance: random.Random
    probes: tuple[str, ...] = tuple(PERIODS_S)
    failures: int = 0
    due_s: dict[str, float] = field(default_factory=dict)

    def due(self, now_s: float) -> tuple[float, str] | None:
        """Return the probe that has waited longest, with its time; ``None`` when none is due."""
        waiting = [(self.due_s.get(probe, 0.0), place) for place, probe in enumerate(self.probes)]
        at_s, place = min(waiting)
        return (at_s, self.probes[place]) if at_s <= now_s else None

    def ran(self, probe: str, now_s: float, pace: float = 1.0) -> None:
        """Set the next time of ``probe``, which has just measured."""
        self.failures = 0
        self.due_s[probe] = now_s + PERIODS_S[probe] * pace * self._jitter()

    def failed(self, now_s: float) -> None:
        """Leave the device alone, for longer each time."""
        self.failures += 1
        pause_s = min(LONGEST_S, min(PERIODS_S.values()) * 2.0**self.failures)
        self.put_off(now_s, pause_s * self._jitter())

    def put_off(self, now_s: float, pause_s: float | None = None) -> None:
        """Have nothing due for ``pause_s``, by default the shortest of the periods."""
        if pause_s is None:
            pause_s = min(PERIODS_S.values()) * self._jitter()
        for probe in self.probes:
            self.due_s[probe] = max(now_s + pause_s, self.due_s.get(probe, 0.0))

    def _jitter(self) -> float:
        return self.chance.uniform(1.0 - JITTER_RATIO, 1.0 + JITTER_RATIO)
