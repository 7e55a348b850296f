"""Notice that the state folder is not there any more: that it was deleted while the agent runs.

The kernel keeps deleted files for who has them open, so nothing fails: the agent goes on writing to
files that nobody will ever open again, and what it remembers, and what waits for the coordinator,
ends with it.  Only a look at the path tells.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import structlog

from gpuward.agent.disk_thread import DiskBusyError, DiskThread
from gpuward.agent.model import ComponentHealth, Result

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gpuward.agent.component import Components
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

NAME = "state"
EVERY_S = 10.0
ANSWERED_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder, and which one is there: device and inode."""

    path: Path
    identity: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return what is at ``path`` now; raises ``OSError``."""
        return cls(path, _identity(path))

    def trouble(self) -> str:
        """Return what became of it; empty while it is where it was. Raises ``OSError``."""
        try:
            now = _identity(self.path)
        except FileNotFoundError:
            return f"{self.path} was deleted"
        return "" if now == self.identity else f"{self.path} was replaced by another"


class StateWatch:
    """Looks at ``paths`` in a thread of its own: a disk that hangs says nothing of them.

    What is not there at first is not missed; raises ``OSError``.
    """

    def __init__(self, paths: Iterable[Path], clock: Clock, components: Components) -> None:
        self._places = tuple(Place.of(path) for path in paths if path.exists())
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
        return next(filter(None, (place.trouble() for place in self._places)), "")

    def _say(self, trouble: str) -> None:
        if trouble and not self._trouble:
            log.error("state.gone", reason=trouble)
        elif self._trouble and not trouble:
            log.info("state.back")
        self._trouble = trouble
        advice = f"{trouble}: what is kept ends with this process: restart the agent"
        health = ComponentHealth(NAME, Result.FAIL, advice)
        self._components.note(NAME, health if trouble else None)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
