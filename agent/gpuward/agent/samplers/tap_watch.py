"""Hear at once which files come into the tap directory and which leave it.

inotify(7) tells of a rename into a directory within some 35 us; looking once a second would leave a
process that lives for half a second unseen.  It tells of nothing when the directory itself is
replaced or mounted over, when too much happens, or when the node has no watch left to give: then
the watch is set anew, or the directory is looked at instead, as it is now and then in any case.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

log = structlog.get_logger()

# <sys/inotify.h>
IN_MOVED_TO = 0x80
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
_WATCHED = IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
# After one of these nothing more can be trusted to come.
_OVER = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED
# Descriptor, mask, cookie, length of the name that follows.
_EVENT = struct.Struct("iIII")

# Read in one turn of the loop: some sixty names.
READ_BYTES = 4096
# More between two turns of the sampler is a flood, and is left to one look at the directory.
MAX_EVENTS = 2_000


class TapWatch:
    """Calls ``appeared`` and ``left`` with the names of files, on the event loop."""

    def __init__(
        self,
        path: Path,
        *,
        appeared: Callable[[str], None],
        left: Callable[[str], None],
        open_inotify: Callable[[], int] | None = None,
    ) -> None:
        self._path = path
        self._appeared = appeared
        self._left = left
        self._open = open_inotify or inotify
        self._fd: int | None = None
        # Device and inode of the directory that is watched.
        self._watched = (0, 0)
        self._events = 0
        self._is_blind = False

    def renew(self) -> bool:
        """Watch what the path names now; return whether something may have been missed."""
        self._events = 0
        try:
            status = self._path.stat()
        except OSError:
            self.close()
            return True
        if self._fd is not None and (status.st_dev, status.st_ino) == self._watched:
            return False
        self.close()
        self._watched = (status.st_dev, status.st_ino)
        try:
            self._fd = self._open()
            _check(_LIBC.inotify_add_watch(self._fd, os.fsencode(self._path), _WATCHED))
        except OSError as error:
            self._cannot(error)
        else:
            self._is_blind = False
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        return True

    def close(self) -> None:
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _cannot(self, error: OSError) -> None:
        self.close()
        if not self._is_blind:
            log.warning("tap.not_watched", path=str(self._path), reason=error.strerror)
        self._is_blind = True

    def _read(self) -> None:
        if self._fd is None:
            return
        for mask, name in parse(os.read(self._fd, READ_BYTES)):
            self._events += 1
            if mask & _OVER or self._events > MAX_EVENTS:
                self.close()
                return
            if mask & IN_MOVED_TO:
                self._appeared(name)
            elif mask & IN_DELETE:
                self._left(name)


def parse(raw: bytes) -> Iterator[tuple[int, str]]:
    """Yield the mask and the name, empty for the directory's own, of each event in ``raw``."""
    at = 0
    while at + _EVENT.size <= len(raw):
        _, mask, _, length = _EVENT.unpack_from(raw, at)
        at += _EVENT.size
        yield mask, os.fsdecode(raw[at : at + length].split(b"\0", 1)[0])
        at += length


def inotify() -> int:
    """Return a new inotify descriptor; raises ``OSError`` when this user has none left."""
    return _check(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


_LIBC = ctypes.CDLL(None, use_errno=True)
