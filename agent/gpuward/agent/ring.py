"""Points of one series in a ring: what was lately, found without walking over it.

Detectors ask every second how much a counter has risen within a minute.  Nearly always it has not
moved at all, and hardly ever has it fallen; so a ring knows when it did either last.  Pure Python
on ``array``: a point takes 16 bytes, and a slice of a ring is copied by C.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from gpuward.agent.model import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

# Five minutes, and a little for a sampler that is late.
KEPT_S = 310.0
# At 1 Hz; what comes faster is kept for less.
RING_POINTS = 310

T = TypeVar("T")


class Ring:
    """The points of the last ``kept_s``, oldest dropped first, and ``RING_POINTS`` at most.

    A point not newer than the last is ignored.  A ring grows only while its oldest point is still
    wanted: one of a point every half minute is full after five minutes too, and not after hours.
    """

    __slots__ = (
        "_at",
        "_fell_s",
        "_kept_s",
        "_moved_s",
        "_next",
        "_over",
        "_turn",
        "_value",
        "newest",
    )

    def __init__(self, first: Sample, kept_s: float = KEPT_S) -> None:
        self._at = array("d", (first.at_s,))
        self._value = array("d", (first.value,))
        self._kept_s = kept_s
        # The place of the oldest point, and the number that the next one has.
        self._turn = 0
        self._next = 1
        # What ``over`` found last, by function, with the numbers of the points that it is of.
        self._over: dict[Callable[..., Any], tuple[int, int, Any]] | None = None
        self.newest = first
        # When a value last differed from the one before it, and when it was below it.
        self._moved_s = self._fell_s = float("-inf")

    def append(self, sample: Sample) -> bool:
        """Return whether ``sample`` is newer than the last."""
        # Taken apart at once: this runs for every value that there is.
        _, at_s, value = sample
        _, newest_s, newest = self.newest
        if at_s <= newest_s:
            return False
        if value != newest:
            self._moved_s = at_s
            if value < newest:
                self._fell_s = at_s
        times, place = self._at, self._turn
        if len(times) == RING_POINTS or times[place] < at_s - self._kept_s:
            times[place] = at_s
            self._value[place] = value
            self._turn = (place + 1) % len(times)
        else:
            if place:
                self._unroll()
            self._at.append(at_s)
            self._value.append(value)
        self._next += 1
        self.newest = sample
        return True

    def since(self, since_s: float) -> tuple[Sample, ...]:
        """Return the points at or after ``since_s``, oldest first."""
        key, (before, after) = self.newest.key, self._places(since_s)
        times = self._at[before] + self._at[after]
        values = self._value[before] + self._value[after]
        return tuple(Sample(key, at_s, value) for at_s, value in zip(times, values, strict=True))

    def figures(self, since_s: float) -> array[float]:
        """Return the values alone of the points at or after ``since_s``, oldest first."""
        before, after = self._places(since_s)
        return self._value[before] + self._value[after]

    def rise(self, since_s: float) -> float:
        """Return by how much a counter has risen since; a fall is a reset and counts as nothing."""
        if self._moved_s <= since_s:
            return 0.0
        values = self.figures(since_s)
        if self._fell_s <= since_s:
            return values[-1] - values[0]
        return sum((now - then for then, now in pairwise(values) if now > then), 0.0)

    def over(self, since_s: float, function: Callable[[tuple[Sample, ...]], T]) -> T:
        """Return ``function`` of the points since; worked out anew only when they are others.

        ``function`` is pure and lives as long as the module that it is in.
        """
        before, after = self._places(since_s)
        count = len(self._at[before]) + len(self._at[after])
        if self._over is None:
            self._over = {}
        first, end, found = self._over.get(function, (0, 0, None))
        if (first, end) != (self._next - count, self._next):
            found = function(self.since(since_s))
            self._over[function] = (self._next - count, self._next, found)
        result: T = found
        return result

    def _unroll(self) -> None:
        """Put the oldest point first: points come more often than they did."""
        turn, self._turn = self._turn, 0
        self._at = self._at[turn:] + self._at[:turn]
        self._value = self._value[turn:] + self._value[:turn]

    def _places(self, since_s: float) -> tuple[slice, slice]:
        """Return where the points since are: first those of one slice, then of the other."""
        # Behind its front a ring that has come round is older than before it.
        turn = self._turn
        if turn and self._at[0] < since_s:
            return slice(bisect_left(self._at, since_s, 0, turn), turn), slice(0, 0)
        return slice(bisect_left(self._at, since_s, turn), None), slice(0, turn)
