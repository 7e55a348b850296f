"""Which channel a page takes when its own does not deliver.

A provider may be down just when it is needed: PagerDuty turned almost every event away for half an
hour in August 2025.  So each person's other channels come next, and after them the last resort.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuward.coordinator.model import Page


@dataclass(frozen=True, slots=True)
class Fallback:
    """``channels``: of each person by name, the preferred one first."""

    channels: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
    last_resort: Sequence[str] = ()
    # A page that is not delivered this long after its decision goes out on another channel too.
    after_s: float = 60.0

    def is_due(self, page: Page, next_try_at_s: float) -> bool:
        """Whether ``page``, which is next tried then, must not wait for that alone."""
        return next_try_at_s - page.created_at_s >= self.after_s

    def next_channel(self, page: Page, pages: Sequence[Page]) -> str | None:
        """Return the channel to try beside that of ``page``, of all ``pages`` of its incident.

        ``None``: the person has been reached, another channel is under way, or there is none left.
        """
        same = [p for p in pages if (p.level, p.target) == (page.level, page.target)]
        if any(p.sent_at_s is not None or p.id > page.id for p in same):
            return None
        used = {p.channel for p in same}
        known = (*self.channels.get(page.target, ()), *self.last_resort)
        return next((channel for channel in known if channel not in used), None)
