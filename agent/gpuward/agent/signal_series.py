"""The series of one signal, and which of them are fresh, without a look at each.

All of a node is shown once a second, and nearly always nothing of a signal is stale.  So one time
is remembered that no newest sample is older than; while that one is fresh, they all are.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.agent.model import SeriesKey
    from gpuward.agent.ring import Ring


class SignalSeries:
    """In order of first sight; the newest sample of a ring is only ever followed by a newer one."""

    __slots__ = ("_rings", "_since_s")

    def __init__(self) -> None:
        self._rings: dict[SeriesKey, Ring] = {}
        # No newest sample is older.
        self._since_s = inf

    def begin(self, ring: Ring) -> None:
        """Take in a series."""
        self._rings[ring.newest.key] = ring
        self._since_s = min(self._since_s, ring.newest.at_s)

    def forget_older(self, oldest_s: float) -> Sequence[SeriesKey]:
        """Forget the series whose newest sample is older; returns them."""
        old = self.stale(oldest_s)
        for key in old:
            del self._rings[key]
        return old

    def all(self) -> tuple[SeriesKey, ...]:
        """Return all of them, stale or not."""
        return tuple(self._rings)

    def fresh(self, oldest_s: float) -> tuple[SeriesKey, ...]:
        """Return those whose newest sample is no older."""
        if self._all_fresh(oldest_s):
            return self.all()
        return tuple(key for key, ring in self._rings.items() if ring.newest.at_s >= oldest_s)

    def stale(self, oldest_s: float) -> Sequence[SeriesKey]:
        """Return those whose newest sample is older."""
        if self._all_fresh(oldest_s):
            return ()
        return [key for key, ring in self._rings.items() if ring.newest.at_s < oldest_s]

    def _all_fresh(self, oldest_s: float) -> bool:
        if self._since_s < oldest_s:
            self._since_s = min((ring.newest.at_s for ring in self._rings.values()), default=inf)
        return self._since_s >= oldest_s
