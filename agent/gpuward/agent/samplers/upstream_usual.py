"""Learn how long an upstream usually takes, slowly, so that a slow one is never the usual.  Pure.

A mean of logarithms, because latencies are skewed.  What is twice the usual moves it a tenth as
fast: an upstream that has been replaced by a slower one is usual after some hours, not minutes.
"""

from __future__ import annotations

import math

import msgspec

# Ten minutes of turns, ten seconds each.
LEARNT_FROM = 60
SHARE = 1 / 360
SLOW_SHARE = SHARE / 10
SLOW = 2.0
LEAST_SECONDS = 1e-6


class Usual(msgspec.Struct):
    """What is usual of one upstream."""

    turns: int = 0
    mean_log: float = 0.0

    @property
    def seconds(self) -> float | None:
        """What is usual, ``None`` until enough is known."""
        return math.exp(self.mean_log) if self.turns >= LEARNT_FROM else None

    def note(self, seconds: float) -> None:
        """Take in what a turn took."""
        value = math.log(max(seconds, LEAST_SECONDS))
        self.turns += 1
        if self.turns <= LEARNT_FROM:
            self.mean_log += (value - self.mean_log) / self.turns
        else:
            is_slow = value - self.mean_log > math.log(SLOW)
            self.mean_log += (SLOW_SHARE if is_slow else SHARE) * (value - self.mean_log)
