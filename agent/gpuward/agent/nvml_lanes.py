"""Decide when a lane of calls is made: how often, by what it costs the driver, and at which moment.

Calls to NVML serialise on a lock of the driver that launches of kernels take too, so a monitor
that asks too much slows what it watches.  A lane that takes more than its share is made half as
often; it comes back once it has become cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.nvml_call import Lane

# Time in NVML by wall time, for one GPU: 5 ms a second.
COSTLY_RATIO = 0.005
# Coming back doubles the cost, so leave a factor of two between the limits.
CHEAP_RATIO = COSTLY_RATIO / 4


def next_period_s(lane: Lane, period_s: float, cost_s: float) -> float:
    """Return the lane's new period after a turn that spent ``cost_s`` in NVML."""
    if cost_s > COSTLY_RATIO * period_s:
        return min(2 * period_s, lane.longest_s)
    if cost_s < CHEAP_RATIO * period_s:
        return max(period_s / 2, lane.period_s)
    return period_s


def next_due_s(now_s: float, period_s: float) -> float:
    """Return when the next turn is due, after one that ended at ``now_s``.

    Always on a whole second, the one nearest to a period from now, so that all GPUs are due at
    once: from when it was due, a stall would be followed by a burst.
    """
    return float(round(now_s + period_s))
