"""Ask who holds the record lock of a tap file: alive or not, and the pid, in one system call.

The kernel translates the holder's pid into the asker's PID namespace and drops the lock when the
holder dies, whatever kills it: fcntl(2), ``F_GETLK``; works on a read-only descriptor.  Closing any
descriptor of the file in the writer's own process would drop its lock, so a process must not read
its own tap file.
"""

from __future__ import annotations

import fcntl
import os
import struct

# struct flock of 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi0q")


def lock_holder(fd: int) -> int | None:
    """Return the pid of the process that holds byte 0 of ``fd``, ``None`` when nobody does.

    0 when the holder lives in a PID namespace that this one cannot see into.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else max(0, pid)
