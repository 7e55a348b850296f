"""The spool for the event loop: a thread of its own does the writing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gpuward.agent.disk_thread import DiskBusyError, DiskThread
from gpuward.agent.spool_file import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gpuward.agent.spool_file import Item


class Spool:
    """``SpoolFile`` with awaitable calls.

    A call that is cancelled, by a timeout say, is carried out all the same when its turn comes.
    """

    def __init__(self, path: Path, *, wall_s: float) -> None:
        self._file = SpoolFile(path, wall_s=wall_s)
        self._thread = DiskThread("spool")

    @property
    def events(self) -> int:
        """Return how many events wait for their acknowledgement."""
        return self._file.events

    @property
    def held(self) -> int:
        """Return how many of them are in memory only."""
        return self._file.held

    @property
    def dropped(self) -> int:
        """Return how many events were given up for want of room."""
        return self._file.dropped

    @property
    def remembered(self) -> bytes:
        """Return what an earlier process asked to remember; empty when nothing."""
        return self._file.remembered

    async def append(self, items: Sequence[Item]) -> None:
        """Keep ``items``; they are durable on return, or held in memory while the disk is full."""
        await self._thread.call(lambda: self._file.append(items))

    async def after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` events with a higher number than ``seq``, oldest first.

        Raises ``sqlite3.Error`` when the file cannot be read.
        """
        return await self._thread.call(lambda: self._file.after(seq, limit))

    async def acknowledge(self, seq: int) -> None:
        """Forget all events up to and including ``seq``."""
        await self._thread.call(lambda: self._file.acknowledge(seq))

    async def remember(self, data: bytes) -> None:
        """Keep ``data`` in place of what was remembered before."""
        await self._thread.call(lambda: self._file.remember(data))

    async def close(self) -> None:
        """Write what is held and end the thread; it is left behind where the disk hangs."""
        with contextlib.suppress(DiskBusyError):
            await self._thread.call(self._file.close, last=True)
