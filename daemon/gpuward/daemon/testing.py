"""Test doubles that ship with the product, so that every test uses the same ones."""

from __future__ import annotations

import asyncio
import heapq


class FakeClock:
    """A clock that moves only when told: ``advance`` wakes sleepers in the order they are due."""

    def __init__(self, wall_s: float = 1_800_000_000.0, mono_s: float = 1_000.0) -> None:
        self._wall_s = wall_s
        self._mono_s = mono_s
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = 0

    def wall_s(self) -> float:
        return self._wall_s

    def mono_s(self) -> float:
        return self._mono_s

    def jump_wall(self, by_s: float) -> None:
        """Move the wall clock alone, as an operator or NTP does."""
        self._wall_s += by_s

    async def sleep_until(self, mono_s: float) -> None:
        if mono_s <= self._mono_s:
            await asyncio.sleep(0)
            return
        event = asyncio.Event()
        self._order += 1
        heapq.heappush(self._sleepers, (mono_s, self._order, event))
        await event.wait()

    async def advance(self, by_s: float) -> None:
        """Move both clocks on by ``by_s`` seconds, letting each sleeper run when it is due."""
        until_s = self._mono_s + by_s
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            due_s, _, event = heapq.heappop(self._sleepers)
            self._move(max(0.0, due_s - self._mono_s))
            event.set()
            await self._settle()
        self._move(until_s - self._mono_s)
        await self._settle()

    def _move(self, by_s: float) -> None:
        self._mono_s += by_s
        self._wall_s += by_s

    async def _settle(self) -> None:
        # Ten turns of the loop let a woken task run through a short chain of awaits.
        for _ in range(10):
            await asyncio.sleep(0)
