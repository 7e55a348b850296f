"""Which open findings the coordinator knows of.

A report lists what is open, so a finding that was raised and cleared while the coordinator was away
would never have been.  One that clears unheard therefore goes to the spool, like what happens once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Heard:
    """Ids of findings that were in a report which the coordinator has acknowledged."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._ids = set(ids)

    def note(self, ids: Iterable[str]) -> bool:
        """Remember that these were heard; returns whether one of them is new."""
        before = len(self._ids)
        self._ids.update(ids)
        return len(self._ids) > before

    def __contains__(self, finding_id: str) -> bool:
        return finding_id in self._ids

    def forget(self, finding_id: str) -> bool:
        """Forget a finding that is over; returns whether it was heard."""
        was_heard = finding_id in self._ids
        self._ids.discard(finding_id)
        return was_heard
