"""When who is paged: a policy of rows, steps with times, and the decision when a time has come.

A step waits for an acknowledgement or for resolution, and the two are different things: an
acknowledgement stops L2 and never L3 or the executive step, which systems that let an
acknowledgement stop the whole chain get wrong.  The defaults are MISSION's table; what it leaves
open (SEV3, unknown impact, nobody on call) is settled in docs/adr.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from gpuward.coordinator.model import Incident, Role, Severity, State, Step, Until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gpuward.coordinator.oncall import Roster

MINUTE_S = 60.0
HOUR_S = 3600.0
# A step whose condition does not hold looks again after this long.
RECHECK_S = 60.0
HANDOVER_PREFIX = "handover-"


class Condition(StrEnum):
    """What must be true for a due step to fire."""

    ALWAYS = "always"
    # Users are hurt, and have been for ``impact_for_s``.
    CUSTOMER_IMPACT = "customer_impact"


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """One row of a policy; ``after_s`` counts from the paging decision."""

    level: str
    severities: tuple[Severity, ...]
    after_s: float
    until: Until
    who: tuple[Role, ...]
    every_channel: bool = False
    condition: Condition = Condition.ALWAYS
    impact_for_s: float = 0.0


_MAJOR = (Severity.SEV1, Severity.SEV2)
_PARTIAL = (Severity.SEV3,)

DEFAULT_POLICY: tuple[PolicyStep, ...] = (
    PolicyStep("L1", (*_MAJOR, *_PARTIAL), 0.0, Until.ACKNOWLEDGED, (Role.PRIMARY,)),
    PolicyStep(
        "L1-repeat", _MAJOR, 5 * MINUTE_S, Until.ACKNOWLEDGED, (Role.PRIMARY,), every_channel=True
    ),
    PolicyStep("L2", _MAJOR, 15 * MINUTE_S, Until.ACKNOWLEDGED, (Role.SECONDARY,)),
    PolicyStep("L2", _PARTIAL, HOUR_S, Until.ACKNOWLEDGED, (Role.SECONDARY,)),
    PolicyStep("L3", _MAJOR, 30 * MINUTE_S, Until.RESOLVED, (Role.LEAD, Role.EXPERT)),
    PolicyStep("L3", _PARTIAL, 4 * HOUR_S, Until.RESOLVED, (Role.LEAD, Role.EXPERT)),
    PolicyStep(
        "executive",
        _MAJOR,
        HOUR_S,
        Until.RESOLVED,
        (Role.EXECUTIVE,),
        condition=Condition.CUSTOMER_IMPACT,
        impact_for_s=30 * MINUTE_S,
    ),
)


@dataclass(frozen=True, slots=True)
class Target:
    """One person on one channel."""

    person: str
    channel: str


@dataclass(frozen=True, slots=True)
class Fire:
    """Page these."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Postpone:
    """Not yet: decide again at ``due_at_s``."""

    due_at_s: float


@dataclass(frozen=True, slots=True)
class Nobody:
    """None of ``roles`` is held by anybody: the next step must not wait."""

    roles: tuple[Role, ...]


def steps_for(incident: Incident, policy: Sequence[PolicyStep], speed: float) -> tuple[Step, ...]:
    """Return the steps of ``incident`` at its severity, in the order they are due.

    Empty for a ticket and once resolved.  ``speed`` divides every delay.
    """
    if incident.escalates_from_s is None or not incident.is_open:
        return ()
    steps = (
        Step(incident.id, row.level, _due_s(incident, row, speed), row.until)
        for row in policy
        if incident.severity in row.severities
    )
    return tuple(sorted(steps, key=lambda step: step.due_at_s))


def reconcile(
    existing: Iterable[Step],
    incident: Incident,
    policy: Sequence[PolicyStep],
    speed: float,
    now_s: float,
) -> tuple[Step, ...]:
    """Return the rows to write so that the unfired steps are those of ``incident`` as it is now.

    A fired step stays fired and never comes back.
    """
    wanted = {step.level: step for step in steps_for(incident, policy, speed)}
    known = {step.level: step for step in existing}
    open_ = {level: step for level, step in known.items() if step.fired_at_s is None}
    changed = [step for level, step in wanted.items() if level not in known]
    changed += [step for level, step in wanted.items() if level in open_ and open_[level] != step]
    changed += [
        replace(step, cancelled_at_s=now_s)
        for level, step in open_.items()
        if step.cancelled_at_s is None
        and level not in wanted
        and not (level.startswith(HANDOVER_PREFIX) and incident.is_open)
    ]
    return tuple(changed)


def handover_step(incident: Incident, now_s: float) -> Step:
    """Return the step that tells a rotation that an incident is now its own."""
    level = f"{HANDOVER_PREFIX}{incident.rotation}"
    return Step(incident.id, level, now_s, Until.RESOLVED)


def row_of(step: Step, incident: Incident, policy: Sequence[PolicyStep]) -> PolicyStep | None:
    """Return the policy row behind ``step`` at the incident's severity, if there still is one."""
    if step.level.startswith(HANDOVER_PREFIX):
        return PolicyStep(step.level, (incident.severity,), 0.0, step.until, (Role.PRIMARY,))
    rows = (r for r in policy if r.level == step.level and incident.severity in r.severities)
    return next(rows, None)


def decide_step(
    row: PolicyStep, incident: Incident, roster: Roster, *, speed: float, now_s: float
) -> Fire | Postpone | Nobody:
    """Decide a due step: whom to page, or why not now.

    One person gets one page on a channel, however many of the roles they hold.
    """
    if row.condition is Condition.CUSTOMER_IMPACT and not _hurts(incident):
        return Postpone(now_s + RECHECK_S / speed)
    if (due_s := _due_s(incident, row, speed)) > now_s and row.impact_for_s:
        return Postpone(due_s)
    targets = _targets(row, incident, roster)
    return Fire(targets) if targets else Nobody(row.who)


def stops(incident: Incident, until: Until) -> str:
    """Return why pages that wait ``until`` must not go out now; empty when they must."""
    if incident.state is State.RESOLVED:
        return "resolved"
    if until is Until.ACKNOWLEDGED and incident.state is not State.OPEN:
        return incident.state.value
    return ""


def misses_acknowledgement(row: PolicyStep, incident: Incident) -> bool:
    """Whether ``row`` firing means that the first page was not acknowledged in time."""
    late = row.until is Until.ACKNOWLEDGED and row.after_s > 0
    return late and incident.acknowledgement_missed_at_s is None


def dedup_key(incident_id: str, level: str) -> str:
    """Return the key that every attempt of a page carries: at most 64 ASCII characters."""
    return f"inc-{incident_id}-{level}"


def _due_s(incident: Incident, row: PolicyStep, speed: float) -> float:
    from_s = (
        incident.opened_at_s if incident.escalates_from_s is None else incident.escalates_from_s
    )
    due_s = from_s + row.after_s / speed
    if row.condition is Condition.CUSTOMER_IMPACT and incident.impact_since_s is not None:
        return max(due_s, incident.impact_since_s + row.impact_for_s / speed)
    return due_s


def _hurts(incident: Incident) -> bool:
    # Unknown counts as hurt for a major incident: silence is not proof of health.
    if incident.customer_impact is None:
        return incident.severity in _MAJOR
    return incident.customer_impact


def _targets(row: PolicyStep, incident: Incident, roster: Roster) -> tuple[Target, ...]:
    found: Mapping[Target, None] = {
        Target(person.name, channel): None
        for role in row.who
        if (person := roster.holder(role, incident.rotation, incident.domain)) is not None
        for channel in roster.channels(person, incident.rotation, row.level)[
            : None if row.every_channel else 1
        ]
    }
    return tuple(found)
