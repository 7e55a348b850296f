"""Absence as evidence: what was seen at every turn and is not seen any more.

A GPU that falls off its bus, or an engine that hangs, announces itself by no figure; what tells is
that figures stop.  One missed turn is chance, three are suspect, six are dead.
"""

from __future__ import annotations

from enum import Enum

SUSPECT_AFTER_MISSES = 3
DEAD_AFTER_MISSES = 6


class Liveness(Enum):
    """How it stands with something that speaks at every turn."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"


def liveness(silent_s: float, period_s: float) -> Liveness:
    """Return how it stands with what speaks each ``period_s`` and was silent for ``silent_s``.

    Silence of one period is none: the next word is only just due.
    """
    misses = int(silent_s / period_s)
    if misses >= DEAD_AFTER_MISSES:
        return Liveness.DEAD
    return Liveness.SUSPECT if misses >= SUSPECT_AFTER_MISSES else Liveness.ALIVE
