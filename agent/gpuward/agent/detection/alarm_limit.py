"""How much evidence an alarm takes: by theory at first, by what chance was seen to do later on.

For independent normal noise Siegmund's formula gives the limit for a budget of false alarms.  Noise
of engines has memory and long tails, and breaks a textbook's limit again and again: so every
excursion of the sum that came to nothing is remembered.  Peaks of excursions fall off
exponentially; from the mean by which they pass a low mark, and how often they do, follows the level
that one of them reaches once in the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

# One false alarm in thirty days, a point each five seconds.
BUDGET_POINTS = 30 * 17_280
# Siegmund's limit for that budget and an allowance of half a standard deviation.
LEAST = 11.3
# More would hide a slow-down of 15 % for more than a minute.
MOST = 40.0
# Excursions beyond this are counted.
MARK = 2.0
# What is believed before any was seen: the tail of normal noise, as if by so many excursions.
BELIEVED = 20.0
BELIEVED_EXCESS = 1.0
BELIEVED_POINTS = 400.0


@dataclass(slots=True)
class AlarmLimit:
    """Excursions that came to nothing: how many, by how much they passed ``MARK``, in how long."""

    points: int = 0
    excursions: int = 0
    excess: float = 0.0

    def note(self, peak: float) -> None:
        """Take in a point of health, and the peak of the excursion that it ended, if any."""
        self.points += 1
        if peak > MARK:
            self.excursions += 1
            self.excess += peak - MARK

    @property
    def value(self) -> float:
        """Return the sum from which on it is an alarm."""
        excess = self.excess + BELIEVED * BELIEVED_EXCESS
        mean = excess / (self.excursions + BELIEVED)
        rate = (self.excursions + 1) / (self.points + BELIEVED_POINTS)
        return max(LEAST, min(MOST, MARK + mean * log(max(1.0, rate * BUDGET_POINTS))))
