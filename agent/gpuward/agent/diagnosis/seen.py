"""What was seen of a piece of evidence: it is there, it is not, or nobody can say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.agent.model import Action


class Presence(StrEnum):
    """Unknown is not absent: it speaks neither for nor against anything."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Seen:
    """``limit``: what ``value`` was held against, a limit or what is usual; same ``unit``."""

    presence: Presence
    value: float = 0.0
    unit: str = ""
    limit: float | None = None
    # Who or what, where a number does not tell: a process, an upstream, a line of a log.
    text: str = ""
    gpu: str = ""
    upstream: str = ""
    source: str = ""
    at_s: float | None = None
    # Over how long it was looked at; 0: one reading.
    window_s: float = 0.0
    # Below 1 it is a hint: it weighs less, and is no reason to look for a cause.
    strength: float = 1.0
    # Key of the finding that says so, where one does.
    key: str = ""
    # What the finding behind it advises, where that is more than its kind does.
    action: Action | None = None

    @property
    def is_present(self) -> bool:
        return self.presence is Presence.PRESENT

    @property
    def is_certain(self) -> bool:
        return self.is_present and self.strength >= 1.0

    @property
    def is_absent(self) -> bool:
        return self.presence is Presence.ABSENT

    @property
    def is_unknown(self) -> bool:
        return self.presence is Presence.UNKNOWN


UNKNOWN = Seen(Presence.UNKNOWN)


def presence(*, is_there: bool) -> Presence:
    """Return the presence of what somebody has looked for."""
    return Presence.PRESENT if is_there else Presence.ABSENT


def worst(seen: Iterable[Seen]) -> Seen:
    """Return the first that is present, of those of several GPUs; unknown when one is and none is.

    Nothing at all is unknown.
    """
    found = tuple(seen)
    for wanted in (Presence.PRESENT, Presence.UNKNOWN, Presence.ABSENT):
        for one in found:
            if one.presence is wanted:
                return one
    return UNKNOWN
