"""Find in a timeline the moments that a review speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from gpuward.coordinator import events as e
from gpuward.coordinator.cause import blamed_in, ranked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.coordinator.model import Incident

EventT = TypeVar("EventT", bound=e.Event)


@dataclass(frozen=True, slots=True)
class At(Generic[EventT]):
    """An event of one type, with its number and time."""

    seq: int
    at_s: float
    event: EventT


@dataclass(frozen=True, slots=True)
class Facts:
    """An incident and its timeline, oldest first; the first entry is ``Opened``."""

    incident: Incident
    entries: Sequence[e.TimelineEntry]

    def all(self, kind: type[EventT]) -> Iterator[At[EventT]]:
        """Yield the events of a type, oldest first."""
        for entry in self.entries:
            if isinstance(entry.event, kind):
                yield At(entry.seq, entry.at_s, entry.event)

    def first(self, kind: type[EventT]) -> At[EventT] | None:
        return next(self.all(kind), None)

    def last(self, kind: type[EventT]) -> At[EventT] | None:
        return next(reversed(tuple(self.all(kind))), None)

    @property
    def opened(self) -> At[e.Opened]:
        found = self.first(e.Opened)
        if found is None:
            raise ValueError(f"incident {self.incident.id}: its timeline has no beginning")
        return found

    @property
    def impact_began(self) -> tuple[float, int]:
        """When users were first hurt and the entry that says so; else when it was opened."""
        opened = self.opened
        if opened.event.impact_since_s is not None:
            return min(opened.event.impact_since_s, opened.at_s), opened.seq
        began = self.first(e.ImpactBegan)
        return (began.event.since_s, began.seq) if began else (opened.at_s, opened.seq)

    @property
    def ended(self) -> At[e.Resolved] | None:
        return self.last(e.Resolved)

    @property
    def mitigated(self) -> At[e.Mitigated] | At[e.Resolved] | None:
        """When users were last relieved: an incident that was only resolved was mitigated then."""
        return self.last(e.Mitigated) or self.ended

    @property
    def causes(self) -> tuple[At[e.FindingLinked], ...]:
        """The findings, each once, the most probable cause first, then the oldest."""
        once = {at.event.finding.finding_id: at for at in self.all(e.FindingLinked)}
        order = ranked((at.event.finding for at in once.values()), blamed_in(self.incident))
        return tuple(once[finding.finding_id] for finding in order)
