"""What a page says, and how its delivery ends.

The first line stands alone: severity, what, since when; a phone shows no more.  Then the impact in
figures, the causes with the closest first, and the least harmful thing that would help.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from gpuward.coordinator.model import Action, Relation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.coordinator.model import Finding, Incident, Page

# What every provider and every lock screen shows in full.
SUMMARY_LIMIT = 130


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


@dataclass(frozen=True, slots=True)
class Sent:
    """The channel took it."""


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
    causes = sorted(
        (f for f in incident.findings if f.relation is not Relation.SUBJECT),
        key=lambda f: (not f.is_open, f.relation, -f.confidence),
    )
    about = causes or list(incident.findings)
    action = next((actions[f.finding_id] for f in about if f.finding_id in actions), Action.NONE)
    return Message(
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
    )


def as_text(message: Message) -> str:
    """Return ``message`` as plain text, the summary first."""
    lines = [f"{message.summary} [{message.level} -> {message.target}]"]
    lines += [f"  impact: {reason}" for reason in message.reasons]
    lines += [f"  cause:  {cause}" for cause in message.causes]
    if message.action:
        lines.append(f"  next:   {message.action.replace('_', ' ')}")
    return "\n".join((*lines, f"  {message.url}"))


def _summary(incident: Incident) -> str:
    since = datetime.fromtimestamp(incident.opened_at_s, UTC).strftime("%H:%M UTC")
    figures = incident.reasons[0].partition(" (")[0] if incident.reasons else ""
    news = f", {figures}" if figures and figures not in incident.title else ""
    head, tail = f"{incident.severity.name} {incident.title}{news}", f" since {since}"
    room = SUMMARY_LIMIT - len(tail)
    return (head if len(head) <= room else f"{head[: room - 3]}...") + tail
