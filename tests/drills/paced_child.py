"""The agent's NVML child on a clock that a drill moves.

Time is a number in a mapped file: the drill writes it, here ``time.monotonic`` returns it, and a
wait ends when it has come.  All else is the agent's own: the program, its threads and lanes, the
real binding, and the library, whose calls take as long as they really take.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import sys
import threading
import time

POLL_S = 0.0005

_file = os.open(os.environ["GPUWARD_DRILL_CLOCK"], os.O_RDWR)
_now = ctypes.c_double.from_buffer(mmap.mmap(_file, ctypes.sizeof(ctypes.c_double)))
_moved = threading.Condition()
# Of each thread the time that it saw last: who waits has worked out for how long by that one.
_seen = threading.local()
_really_sleep, _really_select = time.sleep, select.select


def now_s():
    return _now.value


def look():
    _seen.at_s = now_s()
    return _seen.at_s


def seen_s():
    return getattr(_seen, "at_s", None) or now_s()


class Event(threading.Event):
    """One whose time-outs are the drill's."""

    def set(self):
        super().set()
        with _moved:
            _moved.notify_all()

    def wait(self, timeout=None):
        if timeout is None:
            return super().wait()
        until_s = seen_s() + timeout
        with _moved:
            while not self.is_set() and now_s() < until_s:
                _moved.wait()
        return self.is_set()


def paced_select(readers, writers, others, timeout_s):
    until_s = seen_s() + timeout_s
    while True:
        found = _really_select(readers, writers, others, POLL_S)
        if any(found) or now_s() >= until_s:
            return found


def follow():
    """Wake who waits, each time the drill has moved its clock."""
    last_s = now_s()
    while True:
        _really_sleep(POLL_S)
        if now_s() != last_s:
            last_s = now_s()
            with _moved:
                _moved.notify_all()


if __name__ == "__main__":
    threading.Thread(target=follow, daemon=True).start()
    time.monotonic, threading.Event, select.select = look, Event, paced_select

    from gpuward.agent import nvml_child

    os._exit(nvml_child.main(sys.argv[1:]))
