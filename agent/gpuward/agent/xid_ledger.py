"""Remember a GPU's serious XIDs for longer than a window does: over a day, and over reboots.

Three contained memory errors in a day are no accident, and an error that a reboot should have
mended and that comes back after the second is one of the card.  Kept in the state folder; a GPU is
its UUID, so a card that moves to another slot keeps its record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

DAY_S = 86_400.0
# What happened before that is another story.
FORGOTTEN_AFTER_S = 30 * DAY_S
TIMES_KEPT = 16
BOOTS_KEPT = 4
ENTRIES_KEPT = 512


class Entry(msgspec.Struct):
    """One code of one GPU: when, of the last day, and in which boots, oldest first."""

    gpu: str
    code: int
    times_wall_s: list[float] = []
    boots: list[str] = []


class Ledger:
    """Entries by GPU and code."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {(entry.gpu, entry.code): entry for entry in entries}

    @property
    def entries(self) -> list[Entry]:
        """Return what is to be kept, the oldest first."""
        return list(self._entries.values())

    def add(self, gpu: str, code: int, boot_id: str, wall_s: float) -> None:
        """Note that it happened."""
        entry = self._entries.pop((gpu, code), None) or Entry(gpu, code)
        if entry.times_wall_s and wall_s > entry.times_wall_s[-1] + FORGOTTEN_AFTER_S:
            entry = Entry(gpu, code)
        entry.times_wall_s = [*entry.times_wall_s, wall_s][-TIMES_KEPT:]
        if boot_id not in entry.boots:
            entry.boots = [*entry.boots, boot_id][-BOOTS_KEPT:]
        self._entries[gpu, code] = entry
        while len(self._entries) > ENTRIES_KEPT:
            del self._entries[next(iter(self._entries))]

    def in_a_day(self, gpu: str, code: int, wall_s: float) -> int:
        """Return how often it happened in the day that ended at ``wall_s``, up to 16."""
        entry = self._entries.get((gpu, code))
        times = entry.times_wall_s if entry else []
        return sum(wall_s - DAY_S <= at_s <= wall_s for at_s in times)

    def earlier_boots(self, gpu: str, code: int, boot_id: str) -> int:
        """Return in how many boots before ``boot_id`` it happened, of the last three."""
        entry = self._entries.get((gpu, code))
        boots = entry.boots if entry else []
        return boots.index(boot_id) if boot_id in boots else len(boots)
