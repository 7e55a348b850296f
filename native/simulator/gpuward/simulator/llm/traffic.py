"""Who asks, when, and for how much: requests at random, as conversations with a model come.

Lengths follow the 19,366 requests of Azure's conversation trace of 2023 (Patel et al., Splitwise,
ISCA 2024; as Vidur ships it), by their percentiles; prompt and output are nearly independent there.
Arrivals are Poisson; their rate swings with the day, wanders by the minute, and may be made to
climb.  The same seed asks the same.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuward.simulator.llm.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY_S = 86_400.0
QUANTILES = (
    *(0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65),
    *(0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0),
)
PROMPT_TOKENS = (
    *(2, 29, 91, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1_020, 1_045, 1_071, 1_097),
    *(1_130, 1_189, 1_315, 1_877, 2_735, 4_083, 4_098, 4_142, 6_212, 14_050),
)
OUTPUT_TOKENS = (
    *(7, 16, 24, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129, 151, 177, 217),
    *(384, 395, 400, 411, 424, 451, 540, 601, 954, 1_000),
)
# How long the rate keeps to one of its moods.
MOOD_S = 30.0
MOOD_KEPT = 0.9


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of one engine; ``climb``: points of (seconds, factor), straight between them.

    ``swing``: how far the rate moves with the day, up and down; ``wander``: standard deviation of
    the logarithm of what it does beside; ``follow_ups``: share of requests that continue a talk.
    """

    requests_per_second: float
    swing: float = 0.0
    wander: float = 0.1
    follow_ups: float = 0.3
    open_talks: int = 64
    # Second of the day at which it begins.
    begins_at_s: float = 0.0
    climb: tuple[tuple[float, float], ...] = ()
    max_tokens: int = 16_384

    def rate(self, now_s: float) -> float:
        """Return requests a second, without the wander."""
        turn = 2 * math.pi * (now_s + self.begins_at_s) / DAY_S
        return self.requests_per_second * (1.0 - self.swing * math.cos(turn)) * self._climbed(now_s)

    def _climbed(self, now_s: float) -> float:
        if not self.climb:
            return 1.0
        times = [at_s for at_s, _ in self.climb]
        place = bisect_right(times, now_s)
        if place in (0, len(times)):
            return self.climb[min(place, len(times) - 1)][1]
        (left_s, left), (right_s, right) = self.climb[place - 1], self.climb[place]
        return left + (right - left) * (now_s - left_s) / (right_s - left_s)


@dataclass(slots=True)
class Traffic:
    """Requests without end, one after the other; ``next_s`` is when the next one comes.

    ``faster``, ``longer`` and ``wordier`` multiply the rate, the prompts and the answers.
    """

    demand: Demand
    seed: int
    faster: float = 1.0
    longer: float = 1.0
    wordier: float = 1.0
    next_s: float = 0.0
    _random: random.Random = field(init=False)
    _sent: int = 0
    _mood: float = 0.0
    _mood_until_s: float = 0.0
    _talks: deque[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(f"traffic/{self.seed}")  # noqa: S311 - repeatable, not secret
        self._talks = deque(maxlen=self.demand.open_talks)
        self._wait(0.0)

    def take(self) -> Request:
        """Return the request that comes at ``next_s``."""
        at_s, demand, chance = self.next_s, self.demand, self._random
        self._sent += 1
        talk, said = self._sent, 0
        if self._talks and chance.random() < demand.follow_ups:
            talk, said = chance.choice(self._talks)
        prompt = int(_drawn(PROMPT_TOKENS, chance.random()) * self.longer)
        prompt = max(1, min(prompt + said, demand.max_tokens))
        output = max(1, int(_drawn(OUTPUT_TOKENS, chance.random()) * self.wordier))
        self._talks.append((talk, min(prompt + output, 4_096)))
        self._wait(at_s)
        return Request(self._sent, at_s, prompt, output, talk)

    def _wait(self, now_s: float) -> None:
        rate = self.demand.rate(now_s) * self.faster * self._mood_at(now_s)
        self.next_s = now_s + self._random.expovariate(rate) if rate > 0 else math.inf

    def _mood_at(self, now_s: float) -> float:
        wander = self.demand.wander
        while now_s >= self._mood_until_s:
            fresh = self._random.gauss(0.0, wander) * math.sqrt(1 - MOOD_KEPT**2)
            self._mood = MOOD_KEPT * self._mood + fresh
            self._mood_until_s += MOOD_S
        return math.exp(self._mood)


def _drawn(values: Sequence[int], share: float) -> float:
    """Return the quantile ``share`` of what ``values`` are percentiles of."""
    place = bisect_right(QUANTILES, share) - 1
    below, above = QUANTILES[place], QUANTILES[place + 1]
    return values[place] + (values[place + 1] - values[place]) * (share - below) / (above - below)
