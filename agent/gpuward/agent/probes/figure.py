"""What a probe measures, and how much of the GPU's time that may take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity in a base unit, which its name ends in."""

    name: str
    value: float


@dataclass(slots=True)
class Meter:
    """Time that a burst has kept the GPU busy, by events; beyond ``limit_s`` it has to end."""

    limit_s: float
    busy_s: float = 0.0

    @property
    def is_spent(self) -> bool:
        return self.busy_s >= self.limit_s


class Stalled(Exception):  # noqa: N818 - the condition's name
    """The device did not finish the work by the deadline."""


class Unsupported(Exception):  # noqa: N818 - the condition's name
    """This probe cannot run here; the message says what is missing."""


class Unusable(Exception):  # noqa: N818 - the condition's name
    """CUDA cannot be had in this process; the message is the driver's own word."""


def spread(name: str, seconds: Sequence[float]) -> list[Figure]:
    """Return median, least, 90th percentile and most of ``seconds``; nothing of nothing.

    The least is what physics allows, the median what is usual, the most what others cost.
    """
    if not seconds:
        return []
    ordered = sorted(seconds)
    return [
        Figure(f"{name}_seconds", median(ordered)),
        Figure(f"{name}_shortest_seconds", ordered[0]),
        # Nearest rank.
        Figure(f"{name}_p90_seconds", ordered[math.ceil(0.9 * len(ordered)) - 1]),
        Figure(f"{name}_longest_seconds", ordered[-1]),
    ]
