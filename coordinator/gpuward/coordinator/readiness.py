"""Whether the coordinator can do its work: its database answers and takes a write.

A disk that is full or has turned read-only lets everything be read, while no report can be kept and
no page be decided.  Only a write that is committed shows it: SQLite looks at neither before.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from gpuward.coordinator.store_failures import reason_of

if TYPE_CHECKING:
    from gpuward.coordinator.store import Store
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

ANSWERS_WITHIN_S = 2.0
# Whoever asks more often gets the last answer: a look costs a commit.
LOOKED_EVERY_S = 1.0


class Readiness:
    """Looks when asked, and says when the answer has changed."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._one_look = asyncio.Lock()
        self._looked_s = -inf
        self._trouble = ""

    async def trouble(self) -> str:
        """Return why the coordinator is not ready, on one line; empty when it is."""
        async with self._one_look:
            if self._clock.mono_s() - self._looked_s >= LOOKED_EVERY_S:
                before, self._trouble = self._trouble, await self._look()
                self._looked_s = self._clock.mono_s()
                if self._trouble != before:
                    log.warning("readiness.changed", trouble=self._trouble, before=before)
            return self._trouble

    async def _look(self) -> str:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                await self._store.ping()
        except (SQLAlchemyError, TimeoutError):
            return "the database does not answer"
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                await self._store.beat(self._clock.wall_s())
        except SQLAlchemyError as error:
            return f"the database cannot be written: {reason_of(error)}"
        except TimeoutError:
            return f"the database takes no write within {ANSWERS_WITHIN_S:.0f} s"
        return ""
