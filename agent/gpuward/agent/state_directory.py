"""The folder that one agent owns while it runs.

Two agents with one spool would each acknowledge, and so delete, the other's events.  The lock is
on the folder itself, flock(2): it needs no room on a full disk, works on one that is read-only, and
dies with the process.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StateError(Exception):
    """The folder cannot be used; the message says why."""


@contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Own ``directory``, made if need be, inside the block; raises ``StateError``, ``OSError``."""
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK) and not is_read_only(directory):
        raise StateError("not writable")
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StateError("another agent runs here") from error
    try:
        yield
    finally:
        os.close(descriptor)


def is_read_only(directory: Path) -> bool:
    """Return whether nobody can write there: so is its file system; raises ``OSError``."""
    return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
