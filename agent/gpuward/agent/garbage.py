"""Collect a quiet process's garbage now and then, so that it stays as small as it was.

CPython keeps freed tuples for later, up to two thousand of each length, and gives them back only in
a full round of its collector, which cycles that are a little older wait for too: each ctypes array
type is one.  A process that allocates as little as the NVML child does comes to no such round by
itself in hours, and grew by 1.6 MiB an hour on the way there (measured).
"""

from __future__ import annotations

import gc

EVERY_S = 60.0


class Garbage:
    """Makes a full round every minute; of what there was in the first one, none looks again."""

    def __init__(self, now_s: float) -> None:
        self._due_s = now_s + EVERY_S
        self._is_settled = False

    def collect_if_due(self, now_s: float) -> None:
        """Take a fraction of a millisecond a minute; the first time, eight."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + EVERY_S
        gc.collect()
        if not self._is_settled:
            # Modules and the like live as long as the process.
            self._is_settled = True
            gc.freeze()
