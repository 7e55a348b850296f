"""The mailbox of a tap: read the agent's question, write the answer; see ``map_layout``.

Anyone may create files in the tap directory, so a question counts only when it belongs to root or
to the directory's owner; all else about it is checked before it is believed.  Reading it costs one
``open`` that fails, once a tick, on the tap's own thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from gpuward.tap import map_layout
from gpuward.tap.layout import LayoutError

if TYPE_CHECKING:
    from pathlib import Path

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Requests:
    """Questions to and answers of the tap whose file is ``tap_file``."""

    def __init__(self, tap_file: Path) -> None:
        self._request = tap_file.with_suffix(map_layout.REQUEST_SUFFIX)
        self._map = tap_file.with_suffix(map_layout.MAP_SUFFIX)
        self._unfinished = tap_file.with_suffix(map_layout.MAP_SUFFIX + ".tmp")
        self._answered = b""

    def look(self) -> map_layout.Request | None:
        """Return the question that waits for an answer; never raises for whatever lies there."""
        try:
            request = map_layout.unpack_request(self._read())
        except (OSError, LayoutError):
            return None
        is_late = request.deadline_real_ns < time.time_ns()
        return None if is_late or request.nonce == self._answered else request

    def answer(self, memory_map: map_layout.MemoryMap) -> None:
        """Write the first answer to a nonce, as a whole or not at all; none on a full disk."""
        if memory_map.nonce == self._answered:
            return
        self._answered = memory_map.nonce
        with contextlib.suppress(OSError):
            self._write(map_layout.pack_map(memory_map))

    def close(self) -> None:
        """Remove the last answer."""
        if self._answered:
            with contextlib.suppress(OSError):
                self._map.unlink()

    def _read(self) -> bytes:
        fd = os.open(self._request, _READ)
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > map_layout.MAX_REQUEST_SIZE:
                raise LayoutError("no request")
            if facts.st_uid not in (0, self._request.parent.stat().st_uid):
                raise LayoutError("the request of a stranger")
            return os.read(fd, map_layout.MAX_REQUEST_SIZE + 1)
        finally:
            os.close(fd)

    def _write(self, raw: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            # Left behind by an answer that failed.
            self._unfinished.unlink()
        fd = os.open(self._unfinished, _CREATE, 0o600)
        try:
            try:
                os.fchmod(fd, 0o640)
                view = memoryview(raw)
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            self._unfinished.rename(self._map)
        except OSError:
            with contextlib.suppress(OSError):
                self._unfinished.unlink()
            raise
