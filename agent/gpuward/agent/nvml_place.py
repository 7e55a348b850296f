"""Let GPUs be read one just after the other, though each has a thread of its own.

Their threads share one interpreter: woken together they take it from one another, and woken apart
each finds the processor's caches cold, which costs more than the reading itself.  So whoever has
been read calls the next.  A GPU whose calls hang calls nobody: the next waits for a moment, and
then goes on by itself.
"""

from __future__ import annotations

import threading
import time

# What the turn of a GPU may take before the next one is read beside it.
PATIENCE_S = 0.025
# Of a second; most nodes have been read by then.
LOOKS_AT_S = 0.01


class Place:
    """The place of GPU ``index`` in the row; ``stopping`` ends all waiting, once called."""

    def __init__(self, index: int, stopping: threading.Event) -> None:
        self._patience_s = index * PATIENCE_S
        self._stopping = stopping
        self._called = threading.Event()
        self._turn_s = 0.0
        # Whose turn it is after this one's.
        self.following: Place | None = None

    def call(self) -> None:
        """Tell who waits here that it may be its turn; from any thread."""
        self._called.set()

    def wait(self, due_s: float) -> None:
        """Return when it is this GPU's turn after ``due_s``, at once where it is already."""
        if self._turn_s >= due_s:
            return
        if time.monotonic() < due_s:
            self._call_following()
        latest_s = due_s + self._patience_s
        while (left_s := latest_s - time.monotonic()) > 0 and not self._stopping.is_set():
            if self._called.wait(left_s):
                self._called.clear()
                if time.monotonic() >= due_s:
                    break
                # Not due yet, as a lane that gives way is not: the next one may be.
                self._call_following()
        self._turn_s = time.monotonic()

    def _call_following(self) -> None:
        if self.following is not None:
            self.following.call()


def until_look_s(now_s: float, every_s: float) -> float:
    """Return how long to wait for the next look at what is not of one GPU, each ``every_s``.

    Looks come just after the GPUs, for the same reason.
    """
    return every_s - (now_s - LOOKS_AT_S) % every_s
