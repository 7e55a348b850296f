"""Do what is due in the database: so much at a time, each in a task of its own.

Whoever takes a row has it for a while, so that no other replica does the same; what the database
refuses to hear of meanwhile is taken again when that time is over.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from gpuward.coordinator.store_failures import StoreFailures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from gpuward.coordinator.store import Store
    from gpuward.daemon.clock import Clock

T = TypeVar("T")


class DueWork(ABC, Generic[T]):
    """One kind of work, of which no more than ``limit`` is under way here.

    One slow party does not hold up the others.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        clock: Clock,
        *,
        limit: int,
        is_any_due: Callable[[AsyncConnection, float], Awaitable[bool]],
        take: Callable[[AsyncConnection, float, int], Awaitable[Sequence[T]]],
    ) -> None:
        """``is_any_due``: whether ``take`` would find a row at that wall time; takes no lock."""
        self._store = store
        self._clock = clock
        self._limit = limit
        self._is_any_due = is_any_due
        self._take_due = take
        self._in_flight = 0
        self._failures = StoreFailures(name)

    async def start_due(self, group: asyncio.TaskGroup) -> int:
        """Start in ``group`` all that is due; return how much.  0 costs one read."""
        room = self._limit - self._in_flight
        now_s = self._clock.wall_s()
        async with self._store.reading() as connection:
            if room == 0 or not await self._is_any_due(connection, now_s):
                return 0
        async with self._store.writing() as tx:
            rows = await self._take_due(tx.connection, now_s, room)
        for row in rows:
            self._in_flight += 1
            group.create_task(self._try(row))
        return len(rows)

    async def do_due(self) -> int:
        """Do all that is due once; return how much, when all of it has ended."""
        async with asyncio.TaskGroup() as group:
            return await self.start_due(group)

    @abstractmethod
    async def _do(self, row: T) -> None:
        """Do the work of one row that was taken, and write what became of it."""

    async def _try(self, row: T) -> None:
        try:
            await self._do(row)
        except SQLAlchemyError as error:
            self._failures.note(error, self._clock.mono_s())
        finally:
            self._in_flight -= 1
