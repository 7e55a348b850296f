"""Write a small file of the state folder without waiting for the disk.

The loop that judges must not wait for a disk that is tired or dead.  A thread of its own puts the
newest content in the file's place; it is a daemon, so that a write that hangs cannot keep the
process from ending, and there is one at a time, so that a dead disk costs one thread and no more.
Trouble is said once, and so is its end.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.whole_file import write_whole

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()

WRITTEN_WITHIN_S = 0.5


class BackgroundFile:
    """The file at ``path``, which nobody else writes; the newest content wins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._wanted: bytes | None = None
        # Whether the file is as it is wanted.
        self._is_there = False
        self._is_writing = False
        self._is_failing = False
        self._thread: threading.Thread | None = None

    def save(self, content: bytes | None) -> bool:
        """Have ``content`` written, or the file removed where it is ``None``, unless it is so.

        Returns whether the disk took what came before; if not, trying again is up to the caller.
        """
        with self._lock:
            took_all = not (self._is_writing or self._is_failing)
            if not self._is_there or content != self._wanted:
                self._wanted, self._is_there = content, False
                if not self._is_writing:
                    self._start()
        return took_all

    def save_and_wait(self, content: bytes | None) -> None:
        """Save, and wait for the disk; where it hangs, no longer than half a second."""
        self.save(content)
        if self._thread is not None:
            self._thread.join(WRITTEN_WITHIN_S)

    def _start(self) -> None:
        name = f"write {self.path.name}"
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()
        self._is_writing = True

    def _write(self) -> None:
        """Write until what was wanted last is there, or could not be written."""
        while True:
            with self._lock:
                content = self._wanted
            reason = self._put(content)
            with self._lock:
                if content == self._wanted:
                    self._is_writing, self._is_there = False, not reason
                    self._say(reason)
                    return

    def _put(self, content: bytes | None) -> str:
        """Return why the disk does not take ``content``, empty when it did."""
        try:
            if content is None:
                self.path.unlink(missing_ok=True)
            else:
                write_whole(self.path, content)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _say(self, reason: str) -> None:
        if reason and not self._is_failing:
            log.warning("state_file.not_written", path=str(self.path), reason=reason)
        elif self._is_failing and not reason:
            log.info("state_file.recovered", path=str(self.path))
        self._is_failing = bool(reason)
