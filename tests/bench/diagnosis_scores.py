"""How good verdicts are: right at first, right among the first, how sure, and how safe."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis_life import NONE, UNDETERMINED
from diagnosis_scenarios import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from diagnosis_life import Lived, Verdict

# "I do not know, do this test next" is worth more than a wrong answer.
ABSTENTION = 0.3
RESTART = "restart_application"
FRAGMENTATION = "fragmentation"
BINS = 10
BEST = 3
# "Slow, as if the GPU were": all that can be said while its causes cannot be told apart.
PARENTS = {"gpu_slow": ("power_cap", "thermal", "ecc_degraded", "noisy_neighbour_compute")}
Z = 1.96


@dataclass(frozen=True, slots=True)
class Score:
    """Of one case, or of one replica in it; ``first`` and ``among`` lie between 0 and 1."""

    first: float
    among: float
    was_wrong: bool


def score(lived: Lived) -> Score:
    """Return what the verdicts of one case are worth; with several, each counts alike."""
    scenario = BY_NAME[lived.name]
    said = [one for one in lived.verdicts if one.verdict != NONE]
    if not said:
        is_right = NONE in scenario.also
        return Score(float(is_right) or ABSTENTION, float(is_right), was_wrong=False)
    first = [_first(lived, one) for one in said]
    among = [float(_is_among(lived, one)) for one in said]
    wrong = any(one == 0.0 for one in first)
    return Score(statistics.mean(first), statistics.mean(among), was_wrong=wrong)


def _first(lived: Lived, verdict: Verdict) -> float:
    children = PARENTS.get(verdict.verdict, ())
    if verdict.verdict == UNDETERMINED or set(children) & set(lived.truths):
        return ABSTENTION
    return float(_is_right(lived, verdict))


def _is_right(lived: Lived, verdict: Verdict) -> bool:
    named = not lived.upstream or verdict.upstream == lived.upstream
    # A replica that nothing happened to is not slow for its neighbour's trouble.
    placed = not lived.victim or verdict.endpoint == lived.victim
    return verdict.verdict in lived.truths and named and placed


def _is_among(lived: Lived, verdict: Verdict) -> bool:
    return _is_right(lived, verdict) or bool(set(verdict.ranking[:BEST]) & set(lived.truths))


def has_both(lived: Lived) -> bool:
    """Return whether both causes of a double fault are in the two best, on any one replica."""
    wanted = set(lived.truths)
    best = [set(one.ranking[:2]) for one in lived.verdicts]
    # Causes of another replica's trouble are told of that replica.
    best.append({one.verdict for one in lived.verdicts})
    return any(wanted <= each for each in best)


def is_unsafe(lived: Lived) -> bool:
    """Return whether anybody was told to restart what a restart does not mend."""
    return any(
        one.action == RESTART and FRAGMENTATION not in lived.truths for one in lived.verdicts
    )


def calibration_error(lived: Iterable[Lived]) -> tuple[float, int]:
    """Return the expected calibration error of stated confidences, and of how many verdicts."""
    pairs = [
        (one.confidence, float(_is_right(case, one)))
        for case in lived
        for one in case.verdicts
        if one.verdict not in (UNDETERMINED, NONE)
    ]
    bins: dict[int, list[tuple[float, float]]] = {}
    for pair in pairs:
        bins.setdefault(min(BINS - 1, int(pair[0] * BINS)), []).append(pair)
    gaps = [abs(sum(sure - is_so for sure, is_so in each)) for each in bins.values()]
    return sum(gaps) / max(1, len(pairs)), len(pairs)


def lower_bound(share: float, count: int) -> float:
    """Return Wilson's lower bound of a share of ``count`` at 95 %."""
    if not count:
        return 0.0
    middle = share + Z * Z / (2 * count)
    spread = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return max(0.0, (middle - spread) / (1 + Z * Z / count))


def delays(lived: Sequence[Lived]) -> list[float]:
    return sorted(case.delay_s for case in lived if case.delay_s is not None)
