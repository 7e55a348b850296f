"""Measure scheduling gaps: how long a thread that wants to run is kept from running.

CPU steal and crowded cores delay every launch of a kernel, and look like a slow GPU from outside.
The native function sees gaps of a microsecond; its Python twin, used where the library is absent,
sees the interpreter's own pauses too, so its shortest gaps mean little.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass

from gpuward.native.library import load

LONGEST_DURATION_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class SpinGaps:
    """What a spin saw; times in nanoseconds, fields as in ``spin_gap.h``."""

    elapsed_ns: int
    reads: int
    gaps: int
    gap_total_ns: int
    longest_gap_ns: int


class _Result(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in SpinGaps.__slots__)


def spin_gaps(duration_ns: int, threshold_ns: int) -> SpinGaps:
    """Look at the clock for ``duration_ns``; count looks ``threshold_ns`` or more apart.

    Keeps one core busy for that long.  Raises ``ValueError`` for a threshold of 0 or a duration
    above 10 s.
    """
    if threshold_ns < 1 or not 0 <= duration_ns <= LONGEST_DURATION_NS:
        raise ValueError(f"cannot spin for {duration_ns} ns with a threshold of {threshold_ns} ns")
    library = load()
    if library is None:
        return spin_gaps_in_python(duration_ns, threshold_ns)
    result = _Result()
    error = library.gpuward_spin_gap(
        ctypes.c_uint64(duration_ns), ctypes.c_uint64(threshold_ns), ctypes.byref(result)
    )
    if error:
        raise ValueError(os.strerror(error))
    return SpinGaps(*(getattr(result, name) for name in SpinGaps.__slots__))


def spin_gaps_in_python(duration_ns: int, threshold_ns: int) -> SpinGaps:
    """Do the same without the library: the reference, and the twin of a pure installation."""
    reads = gaps = gap_total_ns = longest_ns = 0
    started_ns = before_ns = time.monotonic_ns()
    while True:
        after_ns = time.monotonic_ns()
        gap_ns = after_ns - before_ns
        longest_ns = max(longest_ns, gap_ns)
        if gap_ns >= threshold_ns:
            gaps += 1
            gap_total_ns += gap_ns
        reads += 1
        before_ns = after_ns
        if before_ns - started_ns >= duration_ns:
            return SpinGaps(before_ns - started_ns, reads, gaps, gap_total_ns, longest_ns)
