"""Sample what makes the node's own word doubtful: a clock that was set, a coordinator that is away.

Neither is trouble of a service, and both look like it from afar: a node that cannot report is
silent, and one whose clock jumped reports in the past.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from gpuward.agent.model import Batch, Sample, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.daemon.clock import Clock

CLOCK_STEP = "node_clock_step_seconds"
SILENCE = "node_coordinator_silence_seconds"

PERIOD_S = 5.0
REMEMBERED_S = 600.0
# Less is what a clock does while it is being disciplined.
LEAST_STEP_S = 0.5


class Standing:
    """``acknowledged_s``: when the coordinator last took a report; ``None``: there is none."""

    name = "standing"
    period_s = PERIOD_S

    def __init__(self, clock: Clock, acknowledged_s: Callable[[], float | None]) -> None:
        self._clock = clock
        self._acknowledged_s = acknowledged_s
        # Wall clock less monotonic one.
        self._offsets: deque[float] = deque(maxlen=int(REMEMBERED_S / PERIOD_S))

    async def sample(self, now_s: float) -> Batch:
        return Batch(samples=tuple(self._samples(now_s)))

    def _samples(self, now_s: float) -> Iterator[Sample]:
        self._offsets.append(self._clock.wall_s() - self._clock.mono_s())
        step_s = self._offsets[-1] - self._offsets[0]
        yield Sample(SeriesKey(CLOCK_STEP), now_s, step_s if abs(step_s) >= LEAST_STEP_S else 0.0)
        acknowledged_s = self._acknowledged_s()
        if acknowledged_s is not None:
            yield Sample(SeriesKey(SILENCE), now_s, max(0.0, now_s - acknowledged_s))
