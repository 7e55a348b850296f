"""Make figures of what the spinning kernel read from its two clocks: pure.

Each step is the same arithmetic, so it takes the same time but for moments in which the kernel did
not run: another process had the GPU, which is shared in slices of a millisecond or two.  Cycles by
time over all other steps are the clock that work really gets.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from gpuward.agent.probes.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

# Ten steps; a slice of another process is a hundred times as long, the timer's own step 1 us.
GAP_NS = 20_000
NANOSECOND_S = 1e-9


def spin_figures(cycles: Sequence[int], nanoseconds: Sequence[int]) -> list[Figure]:
    """Return clock and gaps; nothing where the timer is too coarse to tell steps apart.

    ``cycles``, ``nanoseconds``: as read, of the same looks, in order.
    """
    steps = [
        (after_cycles - before_cycles, after_ns - before_ns)
        for (before_cycles, after_cycles), (before_ns, after_ns) in zip(
            pairwise(cycles), pairwise(nanoseconds), strict=True
        )
    ]
    usual_ns = median(ns for _, ns in steps) if steps else 0
    if usual_ns <= 0:
        return []
    gaps_ns = [ns - usual_ns for _, ns in steps if ns - usual_ns >= GAP_NS]
    ran = [(count, ns) for count, ns in steps if ns - usual_ns < GAP_NS]
    elapsed_ns = sum(ns for _, ns in steps)
    ran_ns = sum(ns for _, ns in ran)
    return [
        Figure("clock_hertz", sum(count for count, _ in ran) / (ran_ns * NANOSECOND_S)),
        Figure("longest_gap_seconds", max(gaps_ns, default=0) * NANOSECOND_S),
        Figure("gap_ratio", sum(gaps_ns) / elapsed_ns),
        Figure("gap_count", float(len(gaps_ns))),
    ]
