"""The coordinator's vocabulary: immutable values of findings, incidents, steps and pages.

Times are wall-clock seconds since 1970 (UTC) and end in ``_s``; a value that is absent by nature is
``None`` or empty.  Everything here is written to the store as JSON by msgspec and read back, so the
names of fields and enum values are kept for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

# msgspec reads the annotations at run time.
from gpuward.coordinator.diagnosis.values import Diagnosis  # noqa: TC001
from gpuward.coordinator.service_totals import ServiceTotals
from gpuward.coordinator.terms import Action, CauseDomain

__all__ = [
    "Action",
    "CauseDomain",
    "Evidence",
    "Finding",
    "FindingClass",
    "Incident",
    "LinkedFinding",
    "Page",
    "Relation",
    "Result",
    "Role",
    "Rotation",
    "ServiceTotals",
    "Severity",
    "State",
    "Step",
    "Subject",
    "Until",
]


class State(StrEnum):
    """Where an incident is; timers treat mitigated as acknowledged."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    MITIGATED = "mitigated"
    RESOLVED = "resolved"


class Severity(IntEnum):
    """User impact, 1 is the worst: compare with ``worse_than``, never with ``<``."""

    SEV1 = 1
    SEV2 = 2
    SEV3 = 3
    SEV4 = 4

    def worse_than(self, other: Severity) -> bool:
        return self.value < other.value

    @property
    def pages(self) -> bool:
        """Whether somebody is paged at all; SEV4 waits for business hours."""
        return self is not Severity.SEV4


class Rotation(StrEnum):
    """Who answers; MISSION names the three."""

    INFRASTRUCTURE = "infrastructure"
    ML = "ml"
    DATA = "data"


class Role(StrEnum):
    """A place in a rotation that one person holds."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    LEAD = "lead"
    EXPERT = "expert"
    EXECUTIVE = "executive"


class Until(StrEnum):
    """What stops a step: an acknowledgement, or nothing short of resolution."""

    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Result(StrEnum):
    """Outcome of a check; unknown is not healthy."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class FindingClass(StrEnum):
    """How loud a finding is: kept, ticket (SEV4) or page."""

    STORE = "store"
    TICKET = "ticket"
    PAGE = "page"


class Relation(IntEnum):
    """How close a finding is to an incident, closest first."""

    # The incident is about this finding.
    SUBJECT = 0
    # A cause that names the incident's service.
    SERVICE = 1
    # A cause on the same GPU as one that names the service.
    GPU = 2
    # A possible cause: on a node that serves the service.
    NODE = 3


@dataclass(frozen=True, slots=True)
class Subject:
    """What a finding is about; fields as in finding.proto, empty where unknown."""

    node: str
    gpu_uuid: str = ""
    gpu_serial: str = ""
    process_key: str = ""
    pid: int = 0
    unit: str = ""
    pod: str = ""
    container: str = ""
    engine: str = ""
    model: str = ""
    service: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact: a value in the Prometheus base unit ``unit``, or words in ``text``."""

    name: str
    value: float = 0.0
    unit: str = ""
    threshold: float | None = None
    text: str = ""
    observed_at_s: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an agent says is wrong; ``finding_id`` names one raise, ``dedup_key`` the trouble.

    ``finding_id`` begins with the node: ids of two agents never meet.
    """

    finding_id: str
    dedup_key: str
    kind: str
    subject: Subject
    summary: str
    default_class: FindingClass
    since_s: float
    last_seen_s: float
    domain: CauseDomain = CauseDomain.CAPACITY
    result: Result = Result.FAIL
    code: int = 0
    cleared_at_s: float | None = None
    count: int = 1
    confidence: float = 1.0
    evidence: tuple[Evidence, ...] = ()
    action: Action = Action.NONE
    cause_dedup_keys: tuple[str, ...] = ()
    # Who made it louder or quieter than its agent says; empty where nobody did.
    class_note: str = ""

    @property
    def is_open(self) -> bool:
        return self.cleared_at_s is None


@dataclass(frozen=True, slots=True)
class LinkedFinding:
    """A finding as an incident knows it."""

    finding_id: str
    dedup_key: str
    kind: str
    relation: Relation
    domain: CauseDomain
    summary: str
    confidence: float = 1.0
    is_open: bool = True
    # Keys of findings that it follows from.
    follows: tuple[str, ...] = ()
    # When what it is about began, by the node.
    since_s: float | None = None
    # The card that it is about, wherever that is plugged in.
    gpu_uuid: str = ""
    gpu_serial: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """One trouble that people answer for, folded from its events; ``version`` counts them.

    ``customer_impact`` is ``None`` while nobody can know.  ``impact_since_s`` is when users were
    first hurt, if they were.
    """

    id: str
    group_key: str
    kind: str
    title: str
    state: State
    severity: Severity
    peak_severity: Severity
    domain: CauseDomain
    rotation: Rotation
    opened_at_s: float
    updated_at_s: float
    service: str = ""
    node: str = ""
    gpu_uuid: str = ""
    # Why the severity is what it is, one sentence each, worst first.
    reasons: tuple[str, ...] = ()
    customer_impact: bool | None = None
    impact_since_s: float | None = None
    acknowledged_at_s: float | None = None
    acknowledged_by: str = ""
    mitigated_at_s: float | None = None
    resolved_at_s: float | None = None
    resolved_by: str = ""
    resolution: str = ""
    # When SEV1 last began or ended; a machine does not go below SEV2 soon after.
    sev1_at_s: float | None = None
    # The paging decision, from which every step is timed; a later severity re-bases nothing.
    escalates_from_s: float | None = None
    acknowledgement_missed_at_s: float | None = None
    findings: tuple[LinkedFinding, ...] = ()
    # Since when none of its findings is open; ``None`` while one is, or when it has none.
    quiet_since_s: float | None = None
    # What the nodes' verdicts come to; ``None`` while none of them says anything.
    diagnosis: Diagnosis | None = None
    version: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it still waits for resolution; acknowledged and mitigated ones do."""
        return self.state is not State.RESOLVED

    @property
    def began_s(self) -> float:
        """When the trouble began: what a node says now may have waited for a way to us."""
        told = [f.since_s for f in self.findings if f.kind == self.kind and f.since_s is not None]
        known = told if self.impact_since_s is None else [self.impact_since_s]
        return min((self.opened_at_s, *known))


@dataclass(frozen=True, slots=True)
class Step:
    """One escalation step of one incident: a row with a time."""

    incident_id: str
    level: str
    due_at_s: float
    until: Until
    fired_at_s: float | None = None
    cancelled_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One message to one person on one channel; ``dedup_key`` is the same on every attempt."""

    id: int
    incident_id: str
    level: str
    target: str
    channel: str
    dedup_key: str
    until: Until
    created_at_s: float
    attempts: int = 0
    due_at_s: float = 0.0
    sent_at_s: float | None = None
    # Why it will not be sent: suppressed by an acknowledgement, or refused by the channel.
    abandoned_at_s: float | None = None
    last_error: str = ""
