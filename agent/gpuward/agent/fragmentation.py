"""How fragmented torch's caching allocator is: what it could give back, what it cannot, what fits.

The gap between reserved and allocated memory says how large the cache is, not how much of it is
lost: it even shrinks to nothing just when memory runs out (simulated ROC AUC for an out-of-memory
error within ten steps: 0.36, so worse than a coin).  What predicts is the headroom, the largest
request that would succeed after a flush, measured in requests: AUC 0.91 with one threshold for all
workloads.  Names as in ``c10/cuda/CUDACachingAllocator.cpp``; all sizes are bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Reserved beyond what the driver says the process holds: the counters describe memory that is not
# mapped now (vLLM's sleep mode, torch_memory_saver).  The slack covers readings a tick apart.
VIRTUAL_SLACK_BYTES = 64 * 2**20
# With expandable segments only whole pages are given back, so that the cheap formula promises too
# much; without a walk over the blocks this share of the reserved memory is not counted on.
EXPANDABLE_UNSURE_RATIO = 0.05


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk over the blocks says of now, in bytes.

    ``largest_free`` is ``None`` once the blocks may have moved since.  ``pending`` is in use still,
    but not by the program; ``releasable`` and ``stranded`` take it for free.
    """

    releasable: int
    stranded: int
    private_free: int = 0
    pending: int = 0
    largest_free: int | None = None


@dataclass(frozen=True, slots=True)
class AllocatorState:
    """Counters of one process on one GPU, in bytes; ``walked`` where there is a walk of now."""

    reserved: int
    active: int
    inactive_split: int
    expandable: bool = False
    # Graphs' and other own pools, which give nothing back and serve nobody else.
    private_reserved: int = 0
    walked: Walked | None = None

    @property
    def free(self) -> int:
        """Free memory in the cache; 0 where counters contradict one another."""
        return max(0, self.reserved - self.active)

    @property
    def releasable(self) -> int:
        """What ``empty_cache()`` would give back.

        Without a walk: exact where there are neither private pools nor expandable segments; never
        more than that with private pools, of which counters do not tell what is free.
        """
        if self.walked is not None:
            return min(self._idle, self.walked.releasable)
        return max(0, self.free - self._unsure_of_free - self.private_reserved)

    @property
    def stranded(self) -> int:
        """Free memory in segments that something else in them pins.

        Without a walk: with private pools what is split in them as well; with expandable segments
        a guess.
        """
        if self.walked is None:
            return min(self.free, self._unsure_of_free)
        return min(self._idle - self.releasable, self.walked.stranded)

    @property
    def _idle(self) -> int:
        """Free, or so when the streams are done; never more than there is."""
        pending = self.walked.pending if self.walked else 0
        return min(self.reserved, self.free + pending)

    @property
    def _unsure_of_free(self) -> int:
        if self.expandable:
            return int(EXPANDABLE_UNSURE_RATIO * self.reserved)
        return self.inactive_split


def headroom_safe(state: AllocatorState, device_free: int) -> int:
    """Return the largest request that succeeds, a flush of the cache included."""
    return max(_largest_free(state), device_free + state.releasable)


def headroom_fast(state: AllocatorState, device_free: int) -> int:
    """Return the largest request that succeeds without a flush, which stalls the whole device."""
    return max(_largest_free(state), device_free)


def _largest_free(state: AllocatorState) -> int:
    return (state.walked.largest_free or 0) if state.walked else 0


def headroom_ratio(headroom: int, mean_large_request: float | None) -> float | None:
    """Return how many mean large requests fit; ``None`` when there was none to compare with."""
    return headroom / mean_large_request if mean_large_request else None


class LargeRequests:
    """The mean size of large allocations of late, from cumulative counts and bytes.

    A fall is a reset by the framework, after which counting starts anew.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()
        # Between the first and the last of them.
        self._count = self._bytes = 0

    @property
    def mean(self) -> float | None:
        """Return the mean; ``None`` when nothing was allocated."""
        return self._bytes / self._count if self._count and self._bytes else None

    def add(self, at_s: float, count: int, size: int) -> None:
        """Take in what was counted by ``at_s``."""
        now = (at_s, count, size)
        if self._seen:
            self._move(self._seen[-1], now, 1)
        self._seen.append(now)

    def forget_before(self, at_s: float) -> None:
        """Forget what was counted before, but for the last that was."""
        while len(self._seen) > 1 and self._seen[0][0] < at_s:
            self._move(self._seen.popleft(), self._seen[0], -1)

    def _move(self, then: tuple[float, int, int], now: tuple[float, int, int], sign: int) -> None:
        count, size = now[1] - then[1], now[2] - then[2]
        if count >= 0 and size >= 0:
            self._count += sign * count
            self._bytes += sign * size


def unusable_free_ratio(free_blocks: Sequence[tuple[int, int]], request: float) -> float:
    """Return the share of free memory in blocks too small for ``request``: Mel Gorman's index.

    ``free_blocks``: bytes and count by size class, 512 B, 1 KiB, ... as the tap publishes them; the
    class that holds ``request`` is judged by its mean block.  1 when nothing is free, as in Linux
    (``mm/vmstat.c``).
    """
    free = sum(size for size, _ in free_blocks)
    if free <= 0:
        return 1.0
    small = sum(size for size, count in free_blocks if count and size / count < request)
    return small / free


def rounding_waste_ratio(active: int, requested: int) -> float:
    """Return the share of memory in use that nobody asked for: ``roundup_power2_divisions``."""
    return max(0.0, (active - requested) / active) if active > 0 else 0.0


def is_virtual(reserved: int, driver_used: int) -> bool:
    """Return whether the counters describe memory that the process does not hold right now."""
    return reserved > driver_used + VIRTUAL_SLACK_BYTES
