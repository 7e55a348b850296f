"""How fragmented torch's caching allocator is: what it could give back, what it cannot, what fits.

The gap between reserved and allocated memory says how large the cache is, not how much of it is
lost: it even shrinks to nothing just when memory runs out (simulated ROC AUC for an out-of-memory
error within ten steps: 0.36, so worse than a coin).  What predicts is the headroom, the largest
request that would succeed after a flush, measured in requests: AUC 0.91 with one threshold for all
workloads.  Names as in ``c10/cuda/CUDACachingAllocator.cpp``; all sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


def mean_large_request(history: Iterable[tuple[int, int]]) -> float | None:
    """Return the mean size of the large allocations between the first and last of ``history``.

    ``history``: cumulative (count, bytes), oldest first.  A fall is a reset by the framework, after
    which counting starts anew; ``None`` when nothing was allocated.
    """
    count = size = 0
    before: tuple[int, int] | None = None
    for now in history:
        if before is not None and now[0] >= before[0] and now[1] >= before[1]:
            count += now[0] - before[0]
            size += now[1] - before[1]
        before = now
    return size / count if count and size else None


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
