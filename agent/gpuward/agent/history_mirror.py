"""Carry history to its file every five seconds, and say when that cannot be done.

History works without its file: on a full or read-only disk, or on one that does not answer, it is
in memory only, which is said once and shown as the health of ``history``; the file is tried again
every minute, and then holds all of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.disk_thread import DiskBusyError, DiskThread
from gpuward.agent.history_file import HistoryFile, HistoryFileError, read_into
from gpuward.agent.model import ComponentHealth, Result

if TYPE_CHECKING:
    from pathlib import Path

    from gpuward.agent.component import Components
    from gpuward.agent.history import History
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

NAME = "history"
# Each time the disk takes a wake-up of a thread and an entry in its journal.
WRITTEN_EVERY_S = 5.0
WRITTEN_WITHIN_S = 5.0
TRIED_AGAIN_AFTER_S = 60.0


class HistoryMirror:
    """Keeps ``history`` at ``path``."""

    def __init__(
        self, history: History, path: Path, *, clock: Clock, components: Components
    ) -> None:
        """Take over what an earlier process has kept there."""
        self._history = history
        self._path = path
        self._clock = clock
        self._components = components
        self._is_failing = False
        self._take_over()
        self._file = HistoryFile(path, history.rows.fd)
        self._thread = DiskThread(NAME)

    async def run(self) -> None:
        """Carry for ever."""
        due_s = self._clock.mono_s()
        while True:
            is_written = await self._write()
            due_s += WRITTEN_EVERY_S if is_written else TRIED_AGAIN_AFTER_S
            # A turn that came late is not made up for.
            due_s = max(due_s, self._clock.mono_s())
            await self._clock.sleep_until(due_s)

    async def close(self) -> None:
        """Carry the last seconds, and end the thread; it is left behind where the disk hangs."""
        await self._write()
        await self._thread.call(self._file.close, last=True)

    def _take_over(self) -> None:
        rows = self._history.rows
        try:
            found = read_into(rows.fd, self._path)
        except (HistoryFileError, OSError) as error:
            self._begin_anew(_words(error))
            return
        if found is None:
            return
        if self._history.go_on(found.generation, found.content, self._clock.mono_s()):
            log.info("history.taken_over", series=self._history.series, torn_rows=found.torn)
        else:
            self._begin_anew("it is of a time that has not come yet")

    def _begin_anew(self, reason: str) -> None:
        self._history.rows.clear()
        log.warning("history.begun_anew", path=str(self._path), reason=reason)

    async def _write(self) -> bool:
        changed = self._history.rows.take_unwritten()
        with self._components.contain(NAME):
            reason = ""
            try:
                async with asyncio.timeout(WRITTEN_WITHIN_S):
                    await self._thread.call(lambda: self._file.write(changed))
            except TimeoutError:
                reason = f"the disk did not answer within {WRITTEN_WITHIN_S:g} s"
            except DiskBusyError as error:
                self._history.rows.give_back(changed)
                reason = str(error)
            except OSError as error:
                reason = _words(error)
            self._say(reason)
        return not reason

    def _say(self, reason: str) -> None:
        if reason and not self._is_failing:
            log.warning("history.in_memory_only", path=str(self._path), reason=reason)
        elif self._is_failing and not reason:
            log.info("history.recovered", path=str(self._path))
        self._is_failing = bool(reason)
        health = ComponentHealth(NAME, Result.WARN, f"in memory only: {reason}")
        self._components.note(NAME, health if reason else None)


def _words(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
