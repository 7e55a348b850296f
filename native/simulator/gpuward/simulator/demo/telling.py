"""Turn entries of an incident's timeline into lines of the story."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuward.simulator.demo.narrator import Tone

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.simulator.demo.centre import Entry

GIB = 1 << 30
Line = tuple[str, str, Tone]


def line_of(entry: Entry) -> Line | None:
    """Return who, what and how; ``None`` for what the story leaves to the incident's page."""
    tell = _WORDS.get(entry.type)
    return None if tell is None else tell(entry.event)


def _opened(event: dict[str, Any]) -> Line:
    severity = f"SEV{event['severity']}"
    what = f"opened {severity} for {event['rotation']}: {event['title']}"
    return "incident", what, Tone.ALARM


def _linked(event: dict[str, Any]) -> Line:
    finding = event["finding"]
    return "cause", f"{finding['kind']}: {finding['summary']}", Tone.WARNING


def _cleared(event: dict[str, Any]) -> Line:
    return "cause", f"cleared: {event['summary']}", Tone.GOOD


def _severity(event: dict[str, Any]) -> Line:
    worse = event["after"] < event["before"]
    what = f"SEV{event['before']} is now SEV{event['after']}: {'; '.join(event['reasons'])}"
    return "incident", what, Tone.ALARM if worse else Tone.GOOD


def _handed_over(event: dict[str, Any]) -> Line:
    return "incident", f"handed over to {event['rotation']}: {event['reason']}", Tone.WARNING


def _missed(_: dict[str, Any]) -> Line:
    return "escalation", "nobody acknowledged in time", Tone.ALARM


def _fired(event: dict[str, Any]) -> Line:
    people, channels = ", ".join(event["targets"]), ", ".join(event["channels"])
    return "escalation", f"{event['level']} is due: page {people} by {channels}", Tone.ALARM


def _sent(event: dict[str, Any]) -> Line:
    what = f"{event['level']} reached {event['target']} by {event['channel']}, {event['dedup_key']}"
    return "page", what, Tone.PLAIN


def _acknowledged(event: dict[str, Any]) -> Line:
    return "person", f"{event['by']} acknowledges: {event['note'] or 'no note'}", Tone.GOOD


def _mitigated(event: dict[str, Any]) -> Line:
    return "incident", f"mitigated: {event['reason']}", Tone.GOOD


def _resolved(event: dict[str, Any]) -> Line:
    return "person", f"{event['by']} resolves: {event['note'] or 'no note'}", Tone.GOOD


def _mapped(event: dict[str, Any]) -> Line:
    reserved, stranded = event["reserved_bytes"] / GIB, event["stranded_bytes"] / GIB
    what = f"memory map of {event['process']}: {stranded:.1f} of {reserved:.0f} GiB stranded"
    return "agent", f"{what}; the picture is on the page", Tone.PLAIN


_WORDS: dict[str, Callable[[dict[str, Any]], Line]] = {
    "Opened": _opened,
    "FindingLinked": _linked,
    "FindingCleared": _cleared,
    "SeverityChanged": _severity,
    "HandedOver": _handed_over,
    "AcknowledgementMissed": _missed,
    "StepFired": _fired,
    "PageSent": _sent,
    "MemoryMapTaken": _mapped,
    "Acknowledged": _acknowledged,
    "Mitigated": _mitigated,
    "Resolved": _resolved,
}
