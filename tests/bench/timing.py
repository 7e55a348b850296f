"""Time calls by the CPU they take, in turn, so that a noisy minute falls on all of them alike.

CPU time of the thread leaves out what neighbours on the machine take; it does not leave out what
they do to caches and clocks, so figures are medians over rounds, and ratios are of the same round.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: ``quick`` shows that a benchmark works, not what the figure is."""

    quick: bool = False

    def times(self, usual: int) -> int:
        return max(2, usual // 10) if self.quick else usual

    def seconds(self, usual: float) -> float:
        return max(3.0, usual / 10) if self.quick else usual


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, times: int = 1
) -> dict[str, list[float]]:
    """Return CPU seconds a call, by name, one value a round; each round makes every call in turn.

    ``times``: how often a call is made in one round.  The first round warms up and is dropped.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            began_s = time.thread_time()
            for _ in range(times):
                call()
            taken[name].append((time.thread_time() - began_s) / times)
    return {name: values[1:] for name, values in taken.items()}


def once_each(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the CPU seconds of one call each, by name."""
    taken = {}
    for name, call in calls.items():
        began_s = time.thread_time()
        call()
        taken[name] = time.thread_time() - began_s
    return taken


def times_of(ours: Sequence[float], others: Sequence[float]) -> float:
    """Return the median over rounds of how many times ``ours`` go into ``others``."""
    return statistics.median(o / u for u, o in zip(ours, others, strict=True))


def percentile(values: Sequence[float], q: float) -> float:
    """Return the ``q``-quantile, nearest rank, of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def say(text: str) -> None:
    """Show progress, apart from the table."""
    print(f"    {text}", file=sys.stderr, flush=True)
