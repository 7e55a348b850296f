"""How often detection cries wolf: healthy replicas, lived through or put together from blocks.

A day of the simulator is lived through by the agent's own parts.  Ninety days would take hours, so
they are drawn from those days: blocks of half an hour of what the law of the load is fed with, at
random, end to end (moving-block bootstrap).  That keeps how residuals hang together within half an
hour, makes the load jump where blocks meet, and cannot show what no such day held: said beside it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detection_life import Point, live

from gpuward.agent.detection.slow_down import SlowDown
from gpuward.agent.detectors.latency_inter_token import KIND, Limits
from gpuward.agent.replica_watch import TURN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from detection_life import Life
    from detection_replicas import Replica

DAY_S = 86_400
BLOCK_POINTS = 360
# A replica is seldom left alone for longer, and begins anew then.
LIFE_DAYS = 3.0
RAISE_POINTS = int(KIND.raise_after_s / TURN_S) + 1
CLEAR_POINTS = int(KIND.clear_after_s / TURN_S)


@dataclass(frozen=True, slots=True)
class Exposure:
    """Days of one GPU each, and the tickets that were raised in them."""

    name: str
    gpu_days: float
    alarms: int
    # Other tickets, of the objective and of errors, where they could be had.
    others: int
    example: str = ""


def lived(name: str, make: Callable[[int], Replica], days: float) -> tuple[Exposure, list[Life]]:
    """Live ``days``, a replica each day."""
    lives = []
    left_s = round(days * DAY_S)
    while left_s > 0:
        lives.append(live(make(1 + len(lives)), min(left_s, DAY_S), step_s=5))
        left_s -= DAY_S
    loud = [raised for life in lives for raised in life.raised if raised.loudness != "store"]
    alarms = sum(raised.kind == KIND.name for raised in loud)
    example = next((f"at {raised.at_s:.0f} s: {raised.summary}" for raised in loud), "")
    return Exposure(name, days, alarms, len(loud) - alarms, example), lives


def drawn(name: str, days: Sequence[Sequence[Point]], gpu_days: float, seed: int) -> Exposure:
    """Return what comes of ``gpu_days`` drawn from ``days`` of points."""
    chance = random.Random(f"bootstrap/{seed}")
    life_points = int(LIFE_DAYS * DAY_S / TURN_S)
    left, alarms = int(gpu_days * DAY_S / TURN_S), 0
    while left > 0:
        alarms += alarms_of(_blocks(days, min(left, life_points), chance))
        left -= life_points
    return Exposure(name, gpu_days, alarms, 0)


def _blocks(days: Sequence[Sequence[Point]], count: int, chance: random.Random) -> list[Point]:
    points: list[Point] = []
    while len(points) < count:
        day = chance.choice(days)
        at = chance.randrange(max(1, len(day) - BLOCK_POINTS))
        points += day[at : at + BLOCK_POINTS]
    return points[:count]


def alarms_of(points: Sequence[Point]) -> int:
    """Return how many tickets would be raised: by the detector's limits, and as long as it takes.

    The detector itself wants a window; a window of each of a million points would take an hour.
    """
    slow_down, limits = SlowDown(), Limits()
    alarms = bad = quiet = 0
    is_open = False
    for place, point in enumerate(points):
        judged = slow_down.judge(point.load, point.seconds, TURN_S * place)
        evidence = 0.0 if judged is None else judged.evidence or 0.0
        shift = 0.0 if judged is None else judged.shift_ratio
        is_bad = evidence >= limits.raise_evidence and shift >= limits.least_shift_ratio
        bad = bad + 1 if is_bad else 0
        quiet = quiet + 1 if evidence < limits.clear_evidence else 0
        if not is_open and bad >= RAISE_POINTS:
            alarms, is_open = alarms + 1, True
        is_open = is_open and quiet < CLEAR_POINTS
    return alarms
