"""Something that happens again and again, for any number of tasks that wait for its next time."""

from __future__ import annotations

import asyncio


class Changes:
    """Take ``next`` before you look; whatever happens after that sets it."""

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def happened(self) -> None:
        """Wake everyone who waits; the next time has an event of its own."""
        event, self.next = self.next, asyncio.Event()
        event.set()
