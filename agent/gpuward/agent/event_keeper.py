"""Carry what happened once from the judge to the spool, and wake the reporter when it is safe."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gpuward.agent import wire
from gpuward.agent.disk_thread import DiskBusyError
from gpuward.agent.kinds import class_of
from gpuward.agent.model import FindingClass
from gpuward.agent.spool_file import Item

if TYPE_CHECKING:
    from gpuward.agent.judge import Judge
    from gpuward.agent.model import Event, OpenFinding
    from gpuward.agent.spool import Spool

log = structlog.get_logger()

AT_ONCE = 100
WRITTEN_WITHIN_S = 5.0


class EventKeeper:
    """Empties ``judge.events`` into the spool, in batches: one flush of the disk for many."""

    def __init__(self, judge: Judge, spool: Spool) -> None:
        self._judge = judge
        self._spool = spool
        # Events lost because the disk did not answer for so long that its queue was full.
        self.dropped = 0

    async def run(self) -> None:
        """Carry for ever."""
        while True:
            waiting = [await self._judge.events.get()]
            while len(waiting) < AT_ONCE and not self._judge.events.empty():
                waiting.append(self._judge.events.get_nowait())
            await self.keep([self._item(event, finding) for event, finding in waiting])
            self._judge.changed.set()

    async def keep(self, items: list[Item]) -> None:
        """Bring ``items`` to the spool, within a bound."""
        try:
            async with asyncio.timeout(WRITTEN_WITHIN_S):
                await self._spool.append(items)
        except TimeoutError:
            # Still queued: written, and reported, when the disk answers.
            log.warning("spool.slow", events=len(items), after_s=WRITTEN_WITHIN_S)
        except DiskBusyError as error:
            self.dropped += len(items)
            log.error("spool.events_dropped", events=len(items), reason=str(error))  # noqa: TRY400

    def _item(self, event: Event, finding: OpenFinding) -> Item:
        snapshot = self._judge.snapshot
        data = wire.spooled(finding, node=snapshot.node, wall_offset_s=snapshot.wall_offset_s)
        identity = f"{snapshot.boot_id}|{event.kind}|{event.identity}"
        told = FindingClass.STORE if finding.suppressed else class_of(finding.finding)
        return Item(
            identity,
            data,
            important=told is not FindingClass.STORE,
            about=finding.finding.dedup_key,
        )
