"""Who answers: the cause domain picks the rotation, the rotation has people, a domain its expert.

The table is MISSION's.  People are fixed in this version: a schedule with layers and hand-offs
gives the same answer to the same question, only at an instant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpuward.coordinator.model import CauseDomain, Role, Rotation

if TYPE_CHECKING:
    from collections.abc import Mapping

ROTATION_OF: Mapping[CauseDomain, Rotation] = MappingProxyType(
    {
        CauseDomain.GPU: Rotation.INFRASTRUCTURE,
        CauseDomain.DRIVER: Rotation.INFRASTRUCTURE,
        CauseDomain.CAPACITY: Rotation.INFRASTRUCTURE,
        CauseDomain.NETWORK: Rotation.INFRASTRUCTURE,
        CauseDomain.MODEL: Rotation.ML,
        CauseDomain.DRIFT: Rotation.ML,
        CauseDomain.RETRIEVAL: Rotation.ML,
        CauseDomain.FRESHNESS: Rotation.DATA,
        CauseDomain.PIPELINE: Rotation.DATA,
        CauseDomain.SOURCE: Rotation.DATA,
    }
)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can be paged; ``channels`` are notifier names, the preferred one first."""

    name: str
    channels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError(f"{self.name} has no channel")


@dataclass(frozen=True, slots=True)
class Team:
    """The people of one rotation; ``None`` where nobody holds the place."""

    primary: Person | None = None
    secondary: Person | None = None
    lead: Person | None = None
    # Channels of one level instead of the person's own: {"L2": ("pagerduty-ml-l2",)}.
    channels: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Roster:
    """Everybody who may be paged."""

    teams: Mapping[Rotation, Team]
    experts: Mapping[CauseDomain, Person]
    executive: Person | None = None

    def holder(self, role: Role, rotation: Rotation, domain: CauseDomain) -> Person | None:
        """Return who holds ``role`` for an incident of this rotation and domain, if anybody."""
        team = self.teams.get(rotation, Team())
        return {
            Role.PRIMARY: team.primary,
            Role.SECONDARY: team.secondary,
            Role.LEAD: team.lead,
            Role.EXPERT: self.experts.get(domain),
            Role.EXECUTIVE: self.executive,
        }[role]

    def channels(self, person: Person, rotation: Rotation, level: str) -> tuple[str, ...]:
        """Return where to page ``person`` at ``level``, the preferred channel first."""
        return self.teams.get(rotation, Team()).channels.get(level, person.channels)
