"""A page as its provider keeps it: an alert that people take there, or a card that is redrawn.

What we tell a provider and what we see there are kept apart.  An acknowledgement there counts once,
when it is seen for the first time and was not our own: one that a person has since withdrawn here
does not come back with the next look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gpuward.coordinator.model import State

if TYPE_CHECKING:
    from gpuward.coordinator.page import Message, Outcome, Refused, Retry


@dataclass(frozen=True, slots=True)
class Alert:
    """What a channel holds of a page; ``reference`` is the provider's own name for it, if any."""

    id: int
    page_id: int
    incident_id: str
    channel: str
    dedup_key: str
    reference: str
    # The incident's state and version that the provider knows.
    told: State
    told_version: int
    # What was seen there at the last look.
    seen: State
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """What a provider says of an alert; ``by`` is who acted there, empty where it does not say."""

    state: State
    by: str = ""


@runtime_checkable
class Follows(Protocol):
    """A channel that is told what becomes of an incident."""

    # Which states it can bring about there: open is an acknowledgement withdrawn.
    tells: frozenset[State]

    async def follow(self, alert: Alert, message: Message) -> Outcome:
        """Make the alert say what ``message`` says now; ``Sent`` also where that is no news."""
        ...


@runtime_checkable
class Looks(Protocol):
    """A channel whose alerts can be read back."""

    async def look(self, alert: Alert) -> Sight | Retry | Refused:
        """Return what people did there; trouble is a value, not an exception."""
        ...


def is_acknowledgement(alert: Alert, sight: Sight) -> bool:
    """Whether ``sight`` is of a person who took the alert, and is news.

    Whoever closes an alert has taken it; whether the trouble is over is judged here, not there.
    """
    return (
        sight.state in {State.ACKNOWLEDGED, State.RESOLVED}
        and alert.seen is State.OPEN
        and alert.told is State.OPEN
    )


def seen_after(alert: Alert, state: State, tells: frozenset[State]) -> State:
    """Return what is to be seen there once the channel was told of ``state``."""
    now, before = _there(state), _there(alert.told)
    return now if now is not before and now in tells else alert.seen


def _there(state: State) -> State:
    # Whoever has mitigated has it.
    return State.ACKNOWLEDGED if state is State.MITIGATED else state
