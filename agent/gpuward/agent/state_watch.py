"""Notice that nothing can be kept in the state folder: it was deleted, or its disk is read-only.

The kernel keeps deleted files for who has them open, so nothing fails: the agent goes on writing to
files that nobody will ever open again, and what it remembers, and what waits for the coordinator,
ends with it.  Only a look at the path tells.  A disk turns read-only by an error of its own; the
agent watches on without it, and says what is lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import structlog

from gpuward.agent.disk_thread import DiskBusyError, DiskThread
from gpuward.agent.model import ComponentHealth, Result
from gpuward.agent.state_directory import is_read_only

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gpuward.agent.component import Components
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

NAME = "state"
EVERY_S = 10.0
ANSWERED_WITHIN_S = 5.0
LOST = "spool, history and what was learned end with this process"


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder, and which one is there: device and inode."""

    path: Path
    identity: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Return what is at ``path`` now, ``None`` where nothing can be seen there."""
        try:
            return cls(path, _identity(path))
        except OSError:
            return None

    def trouble(self) -> str:
        """Return what became of it; empty while it is where it was. Raises ``OSError``."""
        try:
            now = _identity(self.path)
        except FileNotFoundError:
            return f"{self.path} was deleted"
        return "" if now == self.identity else f"{self.path} was replaced by another"


class StateWatch:
    """Looks at ``folder`` and its ``files`` in a thread of its own, for its disk may hang.

    What is not there at first is not missed.
    """

    def __init__(
        self, folder: Path, files: Iterable[Path], clock: Clock, components: Components
    ) -> None:
        self._folder = folder
        places = (Place.of(path) for path in (folder, *files))
        self._places = tuple(place for place in places if place is not None)
        self._clock = clock
        self._components = components
        self._thread = DiskThread(NAME)
        self._trouble = ""

    async def run(self) -> None:
        """Look for ever."""
        while True:
            with self._components.contain(NAME):
                await self.look()
            await self._clock.sleep_until(self._clock.mono_s() + EVERY_S)

    async def close(self) -> None:
        """End the thread; it is left behind where the disk hangs."""
        await self._thread.call(lambda: None, last=True)

    async def look(self) -> None:
        """Look once, and say what has changed."""
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                self._say(await self._thread.call(self._first_trouble))
        except (OSError, TimeoutError, DiskBusyError):
            # The disk's trouble, which those tell who write to it.
            return

    def _first_trouble(self) -> str:
        """Return what keeps things from being kept, and what mends it; empty for nothing."""
        if gone := next(filter(None, (place.trouble() for place in self._places)), ""):
            return f"{gone}: {LOST}: restart the agent"
        if not self._places:
            return f"{self._folder} could not be made: {LOST}: make it and restart the agent"
        if is_read_only(self._folder):
            return f"{self._folder} is on a read-only file system: {LOST}: mount it writable"
        return ""

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.error("state.not_kept", reason=trouble)
        elif self._trouble and not trouble:
            log.info("state.kept_again")
        self._trouble = trouble
        health = ComponentHealth(NAME, Result.FAIL, trouble)
        self._components.note(NAME, health if trouble else None)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
