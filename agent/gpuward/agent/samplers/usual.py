"""Sample what is usual of a replica's load: how long its prompts are and how many requests come.

"Longer than usual" needs a usual that outlives the five minutes of a window.  It is the median of
the last hour's minutes: an anomaly of less than half of that time does not move it, a day's rise
and fall does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.model import Batch, Sample
from gpuward.agent.replica_demand import (
    ARRIVALS_USUAL,
    PROMPT_TOKENS_USUAL,
    REQUESTS,
    arrivals,
    prompt_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.model import SeriesKey
    from gpuward.agent.window import Window

MINUTE_S = 60.0
MINUTES = 60
# Fewer say what was, not what is usual.
LEAST_MINUTES = 5
# A replica that is gone comes back under another name, or has other work.
FORGOTTEN_AFTER_S = 600.0


@dataclass(slots=True)
class _Hour:
    """The last minutes of a replica."""

    seen_s: float
    tokens: deque[float] = field(default_factory=lambda: deque(maxlen=MINUTES))
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=MINUTES))


class UsualLoad:
    """Learns from ``window``."""

    name = "usual_load"
    period_s = MINUTE_S

    def __init__(self, window: Callable[[float], Window]) -> None:
        self._window = window
        self._hours: dict[tuple[str, str], _Hour] = {}

    async def sample(self, now_s: float) -> Batch:
        return Batch(samples=tuple(self.usual(self._window(now_s))))

    def usual(self, window: Window) -> Iterator[Sample]:
        """Take in the last minute of every replica, and yield what is usual of it."""
        for key in window.keys(REQUESTS):
            hour = self._hours.setdefault((key.service, key.endpoint), _Hour(window.now_s))
            hour.seen_s = window.now_s
            for minutes, value in (
                (hour.tokens, prompt_tokens(window, key, MINUTE_S)),
                (hour.arrivals, arrivals(window, key, MINUTE_S)),
            ):
                if value is not None:
                    minutes.append(value)
            yield from _medians(key, hour)
        self._hours = {
            replica: hour
            for replica, hour in self._hours.items()
            if hour.seen_s >= window.now_s - FORGOTTEN_AFTER_S
        }


def _medians(key: SeriesKey, hour: _Hour) -> Iterator[Sample]:
    for signal, minutes in ((PROMPT_TOKENS_USUAL, hour.tokens), (ARRIVALS_USUAL, hour.arrivals)):
        if len(minutes) >= LEAST_MINUTES:
            yield Sample(key._replace(signal=signal), hour.seen_s, median(minutes))
