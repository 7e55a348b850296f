"""What a page says, and how its delivery ends.

The first line stands alone: severity, what, why where it is known, since when; a phone shows no
more.  Then the impact in figures, the diagnosis with what speaks for it and against it and what is
ruled out, the findings with the most probable cause first, and the least harmful thing to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from gpuward.coordinator.cause import causes_of
from gpuward.coordinator.model import Action, Relation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.coordinator.diagnosis.values import Diagnosis
    from gpuward.coordinator.model import Finding, Incident, Page

# What every provider and every lock screen shows in full.
SUMMARY_LIMIT = 130
# From then on the hour alone may be of another day.
HALF_A_DAY_S = 43_200.0
# Lines of a kind that somebody half asleep reads.
LINES = 3


@dataclass(frozen=True, slots=True)
class Message:
    """One page, ready to send; ``id`` names it for ever, ``dedup_key`` its escalation level."""

    id: str
    dedup_key: str
    incident_id: str
    level: str
    target: str
    severity: str
    state: str
    summary: str
    reasons: tuple[str, ...]
    causes: tuple[str, ...]
    action: str
    url: str
    opened_at_s: float
    # What the verdicts of a service's nodes come to; empty while they come to nothing.
    diagnosis: str = ""
    supports: tuple[str, ...] = ()
    contradicts: tuple[str, ...] = ()
    ruled_out: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    # What a person does next: against the cause, or to find it.
    advice: str = ""
    # Who has it, and who ended it; empty while nobody has.
    acknowledged_by: str = ""
    resolved_by: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """The channel took it; ``reference`` is its own name for the message, where it has one."""

    reference: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now; ``after_s`` is what the channel asked for, ``None`` where it did not say."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Never: the channel will not take this page however often it is tried."""

    reason: str


Outcome = Sent | Retry | Refused


class Notifier(Protocol):
    """A channel that pages go out on."""

    async def send(self, message: Message) -> Outcome:
        """Deliver ``message`` within seconds; trouble is a value, not an exception."""
        ...

    async def close(self) -> None: ...


def render(page: Page, incident: Incident, findings: Iterable[Finding], base_url: str) -> Message:
    """Return what ``page`` says of ``incident`` as it is now."""
    actions = {f.finding_id: f.action for f in findings}
    probable = sorted(causes_of(incident), key=lambda finding: not finding.is_open)
    causes = [finding for finding in probable if finding.relation is not Relation.SUBJECT]
    known = (actions[f.finding_id] for f in causes or probable if f.finding_id in actions)
    diagnosis = incident.diagnosis
    named = diagnosis.action if diagnosis is not None else Action.NONE
    action = next(known, Action.NONE) if named is Action.NONE else named
    message = Message(
        id=f"{page.dedup_key}-{page.id}",
        dedup_key=page.dedup_key,
        incident_id=incident.id,
        level=page.level,
        target=page.target,
        severity=incident.severity.name,
        state=incident.state.value,
        summary=_summary(incident),
        reasons=incident.reasons,
        causes=tuple(f.summary for f in causes),
        action="" if action is Action.NONE else action.value,
        url=f"{base_url}/incidents/{incident.id}",
        opened_at_s=incident.opened_at_s,
        acknowledged_by=incident.acknowledged_by,
        resolved_by=incident.resolved_by,
    )
    return message if diagnosis is None else _diagnosed(message, diagnosis)


def _diagnosed(message: Message, diagnosis: Diagnosis) -> Message:
    certain = f", {diagnosis.confidence:.0%} certain" if diagnosis.is_determined else ""
    return replace(
        message,
        diagnosis=f"{diagnosis.summary.rstrip('.')}{certain}",
        supports=diagnosis.supports,
        contradicts=diagnosis.contradicts,
        ruled_out=diagnosis.ruled_out,
        suspects=diagnosis.suspects,
        advice=diagnosis.advice or diagnosis.next_test,
    )


def as_text(message: Message) -> str:
    """Return ``message`` as plain text, the summary first."""
    lines = [f"{message.summary} [{message.level} -> {message.target}]"]
    lines += [f"  impact: {reason}" for reason in message.reasons]
    if message.diagnosis:
        lines.append(f"  why:    {message.diagnosis}")
        lines += [f"  for:    {line}" for line in message.supports[:LINES]]
        lines += [f"  against: {line}" for line in message.contradicts[:LINES]]
        lines += [f"  ruled out: {line}" for line in message.ruled_out]
        lines += [f"  suspect: {line}" for line in message.suspects]
    lines += [f"  cause:  {cause}" for cause in message.causes]
    if message.advice or message.action:
        action = message.action.replace("_", " ")
        lines.append(f"  next:   {': '.join(filter(None, (action, message.advice)))}")
    return "\n".join((*lines, f"  {message.url}"))


def _summary(incident: Incident) -> str:
    began = datetime.fromtimestamp(incident.began_s, UTC)
    is_old = incident.opened_at_s - incident.began_s >= HALF_A_DAY_S
    since = began.strftime("%d %b %H:%M UTC" if is_old else "%H:%M UTC")
    figures = incident.reasons[0].partition(" (")[0] if incident.reasons else ""
    news = f", {figures}" if figures and figures not in incident.title else ""
    diagnosis = incident.diagnosis
    why = f", {diagnosis.headline}" if diagnosis is not None and diagnosis.is_determined else ""
    head, tail = f"{incident.severity.name} {incident.title}{why}{news}", f" since {since}"
    room = SUMMARY_LIMIT - len(tail)
    return (head if len(head) <= room else f"{head[: room - 3]}...") + tail
