"""What users of a service felt in a window of time.

Shares are judged by their Wilson 95 % lower bound, so three failures of four requests do not look
like an outage: E. B. Wilson, JASA 22 (1927), 209-212.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

# Two-sided 95 % quantile of the normal distribution.
Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Impact:
    """What users of a service felt in the window.

    ``stalled_for_s``: requests were in flight or waiting all that time and none completed.
    ``unready_for_s``: no instance that we hear has been ready all that time.  Both are 0 otherwise.
    """

    service: str
    requests: int
    failed: int
    slow: int
    instances: int = 0
    ready: int = 0
    silent: int = 0
    waiting: int = 0
    running: int = 0
    stalled_for_s: float = 0.0
    unready_for_s: float = 0.0
    # When the first failed or slow request of the window was reported.
    hurt_since_s: float | None = None
    nodes: frozenset[str] = frozenset()

    @property
    def has_demand(self) -> bool:
        return self.requests + self.waiting + self.running > 0

    @property
    def failed_share_low(self) -> float:
        return wilson_low(self.failed, self.requests)

    @property
    def slow_share_low(self) -> float:
        return wilson_low(self.slow, self.requests - self.failed)


@dataclass(frozen=True, slots=True)
class BuildChange:
    """What a replica runs now instead of what ran before, in words, and since when."""

    words: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Replica:
    """One instance of a service: where it runs, since when, and what it does to its users."""

    instance: str
    node: str
    # 0 where nobody knows.
    started_at_s: float
    is_heard: bool
    impact: Impact
    # None where it is not known to have run anything else.
    changed: BuildChange | None = None


def wilson_low(hits: int, n: int) -> float:
    """Return the Wilson 95 % lower bound of ``hits / n``; 0 for ``n`` = 0."""
    if n <= 0:
        return 0.0
    z2 = Z_95 * Z_95
    p = min(1.0, hits / n)
    spread = Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, (p + z2 / (2 * n) - spread) / (1 + z2 / n))
