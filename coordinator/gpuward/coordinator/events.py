"""What can happen to an incident, and what may be asked of it.

Events are facts: appended, numbered, never changed; a timeline and a review show nothing else.
Commands are wishes: ``incident.decide`` turns one into events or refuses it.  An event's ``type``
tag is stored, so a class may gain fields with defaults but keeps its name.
"""

# ruff: noqa: D101 - a name like Acknowledged is its own docstring
# ruff: noqa: TC001 - msgspec reads the annotations at run time

from __future__ import annotations

import msgspec

from gpuward.coordinator.diagnosis.values import Case, Diagnosis
from gpuward.coordinator.model import (
    CauseDomain,
    LinkedFinding,
    Rotation,
    Severity,
)

# Who acts when no person does.
MACHINE = "gpuward"


class Event(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """A fact of an incident's timeline."""


class Opened(Event, frozen=True):
    group_key: str
    kind: str
    title: str
    severity: Severity
    domain: CauseDomain
    rotation: Rotation
    service: str = ""
    node: str = ""
    gpu_uuid: str = ""
    reasons: tuple[str, ...] = ()
    customer_impact: bool | None = None
    impact_since_s: float | None = None


class FindingLinked(Event, frozen=True):
    finding: LinkedFinding
    # Another incident that is about this finding; empty when none is.
    incident_id: str = ""


class FindingCleared(Event, frozen=True):
    finding_id: str
    dedup_key: str
    summary: str


class SeverityChanged(Event, frozen=True):
    before: Severity
    after: Severity
    reasons: tuple[str, ...]


class Diagnosed(Event, frozen=True):
    """The nodes' verdicts come to something else than before.

    ``case`` is all that it rests on: the same case after the same diagnosis gives it again.
    """

    diagnosis: Diagnosis
    case: Case
    # Headline of the one before; empty for the first.
    before: str = ""
    reason: str = ""


class HandedOver(Event, frozen=True):
    """The diagnosis points to another domain; the rotation may stay the same."""

    domain: CauseDomain
    rotation: Rotation
    before: Rotation
    reason: str


class Acknowledged(Event, frozen=True):
    by: str
    note: str = ""


class Unacknowledged(Event, frozen=True):
    by: str
    reason: str


class ImpactBegan(Event, frozen=True):
    """Users are hurt, for the first time or again."""

    since_s: float
    reasons: tuple[str, ...]


class Mitigated(Event, frozen=True):
    """The trouble is gone, its cause perhaps not: someone still has to resolve."""

    by: str
    reason: str


class Resolved(Event, frozen=True):
    by: str
    note: str = ""


class Noted(Event, frozen=True):
    by: str
    text: str


class AcknowledgementMissed(Event, frozen=True):
    """Nobody acknowledged in time; ``deadline_s`` is the wall time that passed."""

    deadline_s: float


class StepFired(Event, frozen=True):
    level: str
    targets: tuple[str, ...]
    channels: tuple[str, ...]


class NobodyOnCall(Event, frozen=True):
    """A step found nobody; the next one, if any, is due at once."""

    level: str
    roles: tuple[str, ...]
    next_level: str


class PageSent(Event, frozen=True):
    level: str
    target: str
    channel: str
    dedup_key: str
    attempts: int


class PageFailed(Event, frozen=True):
    """The channel refused this page for good."""

    level: str
    target: str
    channel: str
    reason: str


class PageFellBack(Event, frozen=True):
    """``channel`` refused this page or does not take it: it goes out by ``onto`` as well."""

    level: str
    target: str
    channel: str
    onto: str
    reason: str


class PageSuppressed(Event, frozen=True):
    """Not sent, because it was acknowledged or resolved between decision and delivery."""

    level: str
    target: str
    channel: str
    reason: str


class MemoryMapTaken(Event, frozen=True):
    """What the map of a process's GPU memory adds up to; the map itself is kept beside."""

    process: str
    pid: int
    gpu_uuid: str
    taken_at_s: float
    reserved_bytes: int
    active_bytes: int
    stranded_bytes: int
    releasable_bytes: int
    largest_free_bytes: int
    is_truncated: bool = False
    on_request: bool = False


AnyEvent = (
    Opened
    | FindingLinked
    | FindingCleared
    | SeverityChanged
    | Diagnosed
    | HandedOver
    | Acknowledged
    | Unacknowledged
    | ImpactBegan
    | Mitigated
    | Resolved
    | Noted
    | AcknowledgementMissed
    | StepFired
    | NobodyOnCall
    | PageSent
    | PageFailed
    | PageFellBack
    | PageSuppressed
    | MemoryMapTaken
)


class TimelineEntry(msgspec.Struct, frozen=True):
    """An event with its place in the incident (from 1, no gaps) and its wall time."""

    seq: int
    at_s: float
    event: AnyEvent


class Acknowledge(msgspec.Struct, frozen=True):
    by: str
    note: str = ""


class Unacknowledge(msgspec.Struct, frozen=True):
    by: str
    reason: str


class Mitigate(msgspec.Struct, frozen=True):
    by: str
    reason: str


class Resolve(msgspec.Struct, frozen=True):
    by: str
    note: str = ""


class Note(msgspec.Struct, frozen=True):
    by: str
    text: str


class LinkFinding(msgspec.Struct, frozen=True):
    """A finding that is new to the incident, or closer than it was."""

    finding: LinkedFinding
    incident_id: str = ""


class ClearFinding(msgspec.Struct, frozen=True):
    finding_id: str


class ChangeSeverity(msgspec.Struct, frozen=True):
    severity: Severity
    reasons: tuple[str, ...]


class Diagnose(msgspec.Struct, frozen=True):
    diagnosis: Diagnosis
    case: Case


class HandOver(msgspec.Struct, frozen=True):
    domain: CauseDomain
    rotation: Rotation
    reason: str


class BeginImpact(msgspec.Struct, frozen=True):
    since_s: float
    reasons: tuple[str, ...]


Command = (
    Acknowledge
    | Unacknowledge
    | Mitigate
    | Resolve
    | Note
    | LinkFinding
    | ClearFinding
    | ChangeSeverity
    | Diagnose
    | HandOver
    | BeginImpact
)
