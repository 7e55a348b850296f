"""Which share of events is usual, counted over about a day, and when more of them is no chance."""

from __future__ import annotations

from dataclasses import dataclass

from gpuward.agent.detection.poisson import IMPROBABLE, chance_of_as_many

# A day of turns, one each five seconds.
MEMORY_TURNS = 17_280.0
# What is believed of a service of which nothing was seen: one in a thousand, as if of so many.
BELIEVED_RATIO = 0.001
BELIEVED_EVENTS = 1_000.0
# No engine serves more in a turn: a page that says so is wrong.
MOST_EVENTS = 1e7


@dataclass(slots=True)
class UsualRatio:
    """Events and those that count, older ones less."""

    events: float = BELIEVED_EVENTS
    counted: float = BELIEVED_EVENTS * BELIEVED_RATIO

    @property
    def value(self) -> float:
        return self.counted / self.events

    def learn(self, events: float, counted: float) -> None:
        """Take in a turn's counts; the caller leaves out those of an unusual time."""
        if not 0.0 <= counted <= events <= MOST_EVENTS:
            return
        keep = 1.0 - 1.0 / MEMORY_TURNS
        # What is believed does not fade: a quiet night must not make one failure a certainty.
        self.events = BELIEVED_EVENTS + (self.events - BELIEVED_EVENTS) * keep + events
        believed = BELIEVED_EVENTS * BELIEVED_RATIO
        self.counted = believed + (self.counted - believed) * keep + counted


def is_unusual(counted: float, events: float, usual_ratio: float) -> bool:
    """Return whether chance alone does not make ``counted`` of ``events``."""
    if counted <= 0 or events <= 0:
        return False
    mean = max(usual_ratio, BELIEVED_RATIO) * events
    return counted > mean and chance_of_as_many(int(counted), mean) < IMPROBABLE
