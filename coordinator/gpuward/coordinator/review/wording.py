"""Say in one sentence what each event of an incident means.

The web page shows these sentences with people's names; a review shows them with roles, because a
review that names a person as the cause has not dug deep enough.  ``who`` makes the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import singledispatch
from itertools import pairwise
from typing import TYPE_CHECKING

from gpuward.coordinator import events as e
from gpuward.memory_map.text import size_text

if TYPE_CHECKING:
    from collections.abc import Iterable

# What to call a person by.
Who = Callable[[str], str]

ROLE_OF_LEVEL = {
    "L1": "the primary on call",
    "L2": "the secondary on call",
    "L3": "the team lead or the domain expert",
    "executive": "engineering leadership",
    "handover": "the primary on call",
}
# 9999-12-31, where calendars end.
LAST_S = 253_402_300_799.0
UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
ANY_RESPONDER = "a responder"


def roles(entries: Iterable[e.TimelineEntry]) -> dict[str, str]:
    """Return the role of everyone who was paged or acted, by name.

    A person's first page decides; one who acted without being paged is a responder.
    """
    found: dict[str, str] = {e.MACHINE: e.MACHINE}
    for entry in entries:
        for name, role in _parts(entry.event):
            if found.get(name, ANY_RESPONDER) == ANY_RESPONDER:
                found[name] = role
    return found


def _parts(event: e.AnyEvent) -> Iterable[tuple[str, str]]:
    match event:
        case e.StepFired(level=level, targets=targets):
            return [(target, role_of(level)) for target in targets]
        case e.PageSent() | e.PageFailed() | e.PageFellBack() | e.PageSuppressed():
            return [(event.target, role_of(event.level))]
        case e.Acknowledged(by=by) | e.Unacknowledged(by=by) | e.Mitigated(by=by):
            return [(by, ANY_RESPONDER)]
        case e.Resolved(by=by) | e.Noted(by=by):
            return [(by, ANY_RESPONDER)]
        case _:
            return []


def role_of(level: str) -> str:
    """Return who a level of the escalation table reaches, also of ``L1-repeat``."""
    return ROLE_OF_LEVEL.get(level.partition("-")[0], f"the responders of level {level}")


def utc(at_s: float) -> str:
    """Return a moment for people: ``2026-11-24 05:48:01 UTC``."""
    return moment(at_s).strftime("%Y-%m-%d %H:%M:%S UTC")


def moment(at_s: float) -> datetime:
    """Return the moment in UTC; a clock that is far off shows as its nearest possible time."""
    return datetime.fromtimestamp(min(max(at_s, 0.0), LAST_S), UTC)


def duration(seconds: float) -> str:
    """Return a length of time for people, two units at most: ``1 h 05 min``, ``42 s``."""
    left = max(0, round(seconds))
    for (unit, length_s), (finer, finer_s) in pairwise(UNITS):
        if left >= length_s:
            rest = left % length_s // finer_s
            more = f" {rest:02d} {finer}" if rest else ""
            return f"{left // length_s} {unit}{more}"
    return f"{left} s"


def plain(text: str) -> str:
    """Return ``text`` on one line, without what a terminal or a reader's eye would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def sentence(text: str) -> str:
    """Return ``text`` ending as a sentence does."""
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


@singledispatch
def describe(event: object, who: Who) -> str:
    """Return one sentence, without its time; ``who`` turns a name into what to call the person."""
    raise TypeError(f"no words for {event!r} by {who}")


@describe.register
def _(event: e.Opened, who: Who) -> str:  # noqa: ARG001
    news = [reason for reason in event.reasons if reason not in event.title]
    return f"Opened as SEV{event.severity.value}: {sentence(event.title)}{_list(news)}"


@describe.register
def _(event: e.FindingLinked, who: Who) -> str:  # noqa: ARG001
    finding = event.finding
    elsewhere = f" (incident {event.incident_id})" if event.incident_id else ""
    return f"Evidence joined: {finding.kind}: {sentence(finding.summary)}{elsewhere}"


@describe.register
def _(event: e.FindingCleared, who: Who) -> str:  # noqa: ARG001
    return f"No longer seen: {sentence(event.summary)}"


@describe.register
def _(event: e.SeverityChanged, who: Who) -> str:  # noqa: ARG001
    verb = "raised" if event.after.worse_than(event.before) else "lowered"
    change = f"from SEV{event.before.value} to SEV{event.after.value}"
    return f"Severity {verb} {change}.{_list(event.reasons)}"


@describe.register
def _(event: e.Diagnosed, who: Who) -> str:  # noqa: ARG001
    now = event.diagnosis
    if not event.before:
        return f"Diagnosis: {sentence(now.summary)}"
    if event.before == now.headline:
        return f"The diagnosis stays, on other grounds: {sentence(now.summary)}"
    why = f" Because {sentence(event.reason)}" if now.is_determined else ""
    return f"Diagnosis changed from “{event.before}” to “{now.headline}”.{why}"


@describe.register
def _(event: e.HandedOver, who: Who) -> str:  # noqa: ARG001
    if event.rotation is event.before:
        return f"The diagnosis points to {event.domain}: {sentence(event.reason)}"
    return f"Handed from {event.before} to {event.rotation}: {sentence(event.reason)}"


@describe.register
def _(event: e.Acknowledged, who: Who) -> str:
    return f"Acknowledged by {who(event.by)}.{_quote(event.note)}"


@describe.register
def _(event: e.Unacknowledged, who: Who) -> str:
    return f"Acknowledgement withdrawn by {who(event.by)}: {sentence(event.reason)}"


@describe.register
def _(event: e.ImpactBegan, who: Who) -> str:  # noqa: ARG001
    return f"Users are affected since {utc(event.since_s)}.{_list(event.reasons)}"


@describe.register
def _(event: e.Mitigated, who: Who) -> str:
    return f"Mitigated by {who(event.by)}: {sentence(event.reason)}"


@describe.register
def _(event: e.Resolved, who: Who) -> str:
    return f"Resolved by {who(event.by)}.{_quote(event.note)}"


@describe.register
def _(event: e.Noted, who: Who) -> str:
    return f"Note by {who(event.by)}: “{event.text.strip()}”"


@describe.register
def _(event: e.AcknowledgementMissed, who: Who) -> str:  # noqa: ARG001
    return f"Nobody acknowledged before {utc(event.deadline_s)}."


@describe.register
def _(event: e.StepFired, who: Who) -> str:
    people = ", ".join(dict.fromkeys(who(target) for target in event.targets))
    return f"{event.level} was due: paging {people} by {', '.join(event.channels)}."


@describe.register
def _(event: e.NobodyOnCall, who: Who) -> str:  # noqa: ARG001
    then = f"{event.next_level} is due at once" if event.next_level else "there is no further step"
    return f"{event.level} found nobody on call ({', '.join(event.roles)}); {then}."


@describe.register
def _(event: e.PageSent, who: Who) -> str:
    tries = f" at attempt {event.attempts}" if event.attempts > 1 else ""
    return f"Page {event.level} reached {event.channel} for {who(event.target)}{tries}."


@describe.register
def _(event: e.PageFailed, who: Who) -> str:
    place = f"{event.channel} for {who(event.target)}"
    return f"Page {event.level} was refused by {place}: {sentence(event.reason)}"


@describe.register
def _(event: e.PageFellBack, who: Who) -> str:
    place = f"{event.onto} too, as {event.channel} does not reach {who(event.target)}"
    return f"Page {event.level} goes out by {place}: {sentence(event.reason)}"


@describe.register
def _(event: e.PageSuppressed, who: Who) -> str:
    place = f"{event.channel} to {who(event.target)}"
    return f"Page {event.level} by {place} was not needed: {sentence(event.reason)}"


@describe.register
def _(event: e.MemoryMapTaken, who: Who) -> str:  # noqa: ARG001
    wish = " again, as somebody asked" if event.on_request else ""
    more = " There is more: the highest addresses did not fit." if event.is_truncated else ""
    return (
        f"Memory map of {event.process} (pid {event.pid}) on {event.gpu_uuid} taken{wish}:"
        f" {size_text(event.reserved_bytes)} reserved, {size_text(event.active_bytes)} active,"
        f" {size_text(event.stranded_bytes)} stranded,"
        f" {size_text(event.releasable_bytes)} releasable;"
        f" the largest free block has {size_text(event.largest_free_bytes)}.{more}"
    )


def _list(reasons: Iterable[str]) -> str:
    return "".join(f" {sentence(reason[:1].upper() + reason[1:])}" for reason in reasons if reason)


def _quote(note: str) -> str:
    return f" “{note.strip()}”" if note.strip() else ""
