"""What a review is made of: claims that each rest on entries of the timeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from gpuward.coordinator.model import Severity


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement and the numbers of the timeline entries that show it, at least one."""

    text: str
    seqs: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.seqs:
            raise ValueError(f"no timeline entry shows this: {self.text}")


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline; ``after_s`` counts from the start of the incident."""

    seq: int
    at_s: float
    after_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A measured length of time; ``seconds`` is ``None`` when its end never came."""

    name: str
    meaning: str
    seconds: float | None
    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ActionItem:
    """Something that the facts propose; people decide.  ``purpose``: prevent, detect, mitigate."""

    purpose: str
    action: str
    owner: str
    due: date
    because: Claim


@dataclass(frozen=True, slots=True)
class Review:
    """A draft for people to finish, in the sections of a blameless post-incident review."""

    incident_id: str
    title: str
    peak_severity: Severity
    summary: tuple[Claim, ...]
    timeline: tuple[Moment, ...]
    proximate: tuple[Claim, ...]
    contributing: tuple[Claim, ...]
    detection: tuple[Claim, ...]
    resolution: tuple[Claim, ...]
    spans: tuple[Span, ...]
    actions: tuple[ActionItem, ...]
    questions: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class NotDue:
    """No review is written, and why."""

    reason: str
