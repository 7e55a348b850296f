"""What makes one step unlike another: noise, a wandering clock, pauses, and others' turns.

Steps of a healthy engine vary by 2-3 % among themselves.  Beside that, the clock of a GPU wanders
by a step or two of 15 MHz with its heat, and the engine's interpreter stops to collect garbage.
"""

from __future__ import annotations

import math
import random

STEP_SIGMA = 0.025
STEP_BITS = 12
WANDER_SIGMA = 0.004
WANDER_S = 30.0
PAUSE_EVERY_S = 45.0
PAUSE_S = (0.02, 0.08)
# A foreign process works in bursts: a few seconds each.
BURST_S = 4.0


class Noise:
    """Of one engine; the same seed, the same noise."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"noise/{seed}")  # noqa: S311 - repeatable, not secret
        # Drawn once: a step costs the simulator little more than a look into a table.
        chance = self._random
        self._steps = [
            math.exp(chance.gauss(-0.5 * STEP_SIGMA**2, STEP_SIGMA)) for _ in range(1 << STEP_BITS)
        ]
        self._wander = 1.0
        self._logarithm = 0.0
        self._wander_until_s = 0.0
        self._pause_at_s = self._random.expovariate(1 / PAUSE_EVERY_S)
        self._burst_until_s = 0.0
        self._burst = False

    def factor(self, now_s: float) -> float:
        """Return by what a step that begins now is longer than its law says."""
        chance = self._random
        while now_s >= self._wander_until_s:
            kept = math.exp(-1.0 / WANDER_S)
            fresh = chance.gauss(0.0, WANDER_SIGMA) * math.sqrt(1 - kept * kept)
            self._logarithm = kept * self._logarithm + fresh
            self._wander = math.exp(self._logarithm)
            self._wander_until_s = max(self._wander_until_s + 1.0, now_s - 10 * WANDER_S)
        return self._wander * self._steps[chance.getrandbits(STEP_BITS)]

    def pause_s(self, now_s: float) -> float:
        """Return how long the interpreter stands still before this step: 0 for nearly all."""
        if now_s < self._pause_at_s:
            return 0.0
        self._pause_at_s = now_s + self._random.expovariate(1 / PAUSE_EVERY_S)
        return self._random.uniform(*PAUSE_S)

    def foreign(self, now_s: float, share: float) -> float:
        """Return by what a step takes longer while another process has ``share`` of the time.

        It has all of it in bursts, while a long kernel or a batch of it runs: time slicing gives
        each of two busy processes half.
        """
        if now_s >= self._burst_until_s:
            self._burst = self._random.random() < share
            self._burst_until_s = now_s + self._random.expovariate(1 / BURST_S)
        return 2.0 * self._random.uniform(0.85, 1.15) if self._burst else 1.0

    def wait_s(self, mean_s: float) -> float:
        return self._random.expovariate(1 / mean_s)

    def happens(self, share: float) -> bool:
        return self._random.random() < share
