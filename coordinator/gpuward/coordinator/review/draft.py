"""Draft a review from an incident and its timeline, and from nothing else.

A review is due for every incident whose peak severity was SEV1 or SEV2.  People appear as roles;
each claim names the timeline entries that show it, so that a reader can check it and a sentence
that nothing shows cannot be written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from gpuward.coordinator import events as e
from gpuward.coordinator.map_request import KINDS_PREFIX
from gpuward.coordinator.model import Severity
from gpuward.coordinator.review.actions import LATE_DETECTION_S, propose
from gpuward.coordinator.review.facts import At, Facts
from gpuward.coordinator.review.model import Claim, Moment, NotDue, Review, Span
from gpuward.coordinator.review.wording import ANY_RESPONDER, describe, duration, roles, utc
from gpuward.memory_map.text import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuward.coordinator.model import Incident

    Tell = Callable[[e.AnyEvent], str]


def draft(incident: Incident, entries: Sequence[e.TimelineEntry]) -> Review | NotDue:
    """Return the draft, also of an incident that is still open, or why none is due.

    ``entries``: oldest first, beginning with ``Opened``.
    """
    if incident.peak_severity.worse_than(Severity.SEV3):
        return _draft(Facts(incident, entries))
    return NotDue(
        f"no review is due: the peak severity was SEV{incident.peak_severity.value},"
        " and reviews are written for SEV1 and SEV2"
    )


def _draft(facts: Facts) -> Review:
    tell = _blameless(facts)
    return Review(
        incident_id=facts.incident.id,
        title=facts.incident.title,
        peak_severity=facts.incident.peak_severity,
        summary=tuple(_summary(facts)),
        timeline=tuple(_timeline(facts, tell)),
        proximate=tuple(_proximate(facts)),
        contributing=tuple(_contributing(facts)),
        detection=tuple(_detection(facts)),
        resolution=tuple(_resolution(facts, tell)),
        spans=tuple(_spans(facts)),
        actions=tuple(propose(facts)),
        questions=tuple(_questions(facts)),
    )


def _blameless(facts: Facts) -> Tell:
    """Return what describes an event with roles for names, inside what people wrote too."""
    known = roles(facts.entries)
    names = sorted(filter(None, known), key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, names)) + r")(?!\w)")

    def hide(text: str) -> str:
        return pattern.sub(lambda match: known[match[1]], text)

    def who(name: str) -> str:
        return known.get(name, ANY_RESPONDER)

    return lambda event: describe(_rewritten(event, hide), who)


def _rewritten(event: e.AnyEvent, hide: Callable[[str], str]) -> e.AnyEvent:
    """Return ``event`` with ``hide`` applied to the words of a person."""
    match event:
        case e.Acknowledged(note=note) | e.Resolved(note=note):
            return msgspec.structs.replace(event, note=hide(note))
        case e.Unacknowledged(reason=reason) | e.Mitigated(reason=reason):
            return msgspec.structs.replace(event, reason=hide(reason))
        case e.Noted(text=text):
            return msgspec.structs.replace(event, text=hide(text))
        case _:
            return event


def _summary(facts: Facts) -> Iterator[Claim]:
    incident, opened = facts.incident, facts.opened
    peak = f"SEV{incident.peak_severity.value}"
    worst = next(
        (at.seq for at in facts.all(e.SeverityChanged) if at.event.after is incident.peak_severity),
        opened.seq,
    )
    yield Claim(f"{opened.event.title}; peak severity {peak}.", _both(opened.seq, worst))
    began_s, began_seq = facts.impact_began
    if ended := facts.ended:
        took = duration(ended.at_s - began_s)
        text = f"It lasted {took}, from {utc(began_s)} to {utc(ended.at_s)}."
        yield Claim(text, _both(began_seq, ended.seq))
    else:
        last = facts.entries[-1]
        yield Claim(
            f"It began at {utc(began_s)} and was not resolved at the last entry.",
            _both(began_seq, last.seq),
        )


def _timeline(facts: Facts, tell: Tell) -> Iterator[Moment]:
    began_s, _ = facts.impact_began
    for entry in facts.entries:
        yield Moment(entry.seq, entry.at_s, entry.at_s - began_s, tell(entry.event))


def _proximate(facts: Facts) -> Iterator[Claim]:
    diagnosed = facts.last(e.Diagnosed)
    if diagnosed is not None and diagnosed.event.diagnosis.is_determined:
        diagnosis = diagnosed.event.diagnosis
        text = f"{diagnosis.summary} The diagnosis was {diagnosis.confidence:.0%} certain."
        yield Claim(text, (diagnosed.seq,))
    if not facts.causes:
        yield Claim("Unknown: no finding was linked to this incident.", (facts.opened.seq,))
        return
    strongest = facts.causes[0]
    finding = strongest.event.finding
    certainty = f"{finding.confidence:.0%} certain"
    yield Claim(f"{finding.kind} ({certainty}): {finding.summary}", (strongest.seq,))
    if finding.kind.startswith(KINDS_PREFIX):
        yield from _memory_maps(facts)


def _contributing(facts: Facts) -> Iterator[Claim]:
    for linked in facts.causes[1:]:
        finding = linked.event.finding
        yield Claim(f"{finding.kind}: {finding.summary}", (linked.seq,))
    if not facts.causes or not facts.causes[0].event.finding.kind.startswith(KINDS_PREFIX):
        yield from _memory_maps(facts)
    for missed in facts.all(e.AcknowledgementMissed):
        yield Claim("A page was not acknowledged before its deadline.", (missed.seq,))
    for nobody in facts.all(e.NobodyOnCall):
        yield Claim(f"Nobody was on call for {nobody.event.level}.", (nobody.seq,))
    for failed in facts.all(e.PageFailed):
        reason = f"{failed.event.channel} refused a page: {failed.event.reason}"
        yield Claim(reason, (failed.seq,))
    for handed in facts.all(e.HandedOver):
        if handed.event.rotation is not handed.event.before:
            text = f"The incident began with {handed.event.before}, not {handed.event.rotation}."
            yield Claim(text, (handed.seq,))


def _memory_maps(facts: Facts) -> Iterator[Claim]:
    """Say what the first map of each process shows: how it was when the trouble was found."""
    first: dict[tuple[str, int, str], At[e.MemoryMapTaken]] = {}
    for taken in facts.all(e.MemoryMapTaken):
        event = taken.event
        first.setdefault((event.process, event.pid, event.gpu_uuid), taken)
    for taken in first.values():
        event = taken.event
        if event.reserved_bytes == 0:
            continue
        text = (
            f"Evidence: the memory map of {event.process} (pid {event.pid}), taken at"
            f" {utc(event.taken_at_s)}, shows {size_text(event.stranded_bytes)} stranded of"
            f" {size_text(event.reserved_bytes)} reserved, in free blocks of at most"
            f" {size_text(event.largest_free_bytes)}."
        )
        yield Claim(text, (taken.seq,))


def _detection(facts: Facts) -> Iterator[Claim]:
    opened = facts.opened
    how = "; ".join(opened.event.reasons) or opened.event.title
    yield Claim(f"gpuward opened the incident at {utc(opened.at_s)} because: {how}.", (opened.seq,))
    began_s, began_seq = facts.impact_began
    late_s = opened.at_s - began_s
    seqs = _both(began_seq, opened.seq)
    if late_s > LATE_DETECTION_S:
        text = f"It could have been earlier: users were hurt for {duration(late_s)} before."
        yield Claim(text, seqs)
    else:
        yield Claim(f"It took {duration(late_s)} from the first harm to the incident.", seqs)
    for linked in facts.causes:
        if linked.event.incident_id:
            text = (
                f"It could have been known earlier: {linked.event.finding.kind} was already"
                f" the subject of incident {linked.event.incident_id}."
            )
            yield Claim(text, (linked.seq,))


def _resolution(facts: Facts, tell: Tell) -> Iterator[Claim]:
    ended, relief = facts.ended, facts.mitigated
    last = facts.entries[-1]
    for mitigated in facts.all(e.Mitigated):
        yield Claim(tell(mitigated.event), (mitigated.seq,))
    if ended is None:
        yield Claim("It was not resolved at the last entry of the timeline.", (last.seq,))
        return
    yield Claim(tell(ended.event), (ended.seq,))
    began_s, began_seq = facts.impact_began
    if relief is not None:
        took = duration(relief.at_s - began_s)
        yield Claim(f"Users were hurt for {took}.", _both(began_seq, relief.seq))


def _spans(facts: Facts) -> Iterator[Span]:
    opened, acknowledged = facts.opened, facts.first(e.Acknowledged)
    began_s, began = facts.impact_began
    relief, ended = facts.mitigated, facts.ended
    yield Span("detect", "first harm to incident", opened.at_s - began_s, _both(began, opened.seq))
    for name, meaning, start_s, start, end in (
        ("acknowledge", "incident to first acknowledgement", opened.at_s, opened.seq, acknowledged),
        ("mitigate", "first harm to relief", began_s, began, relief),
        ("resolve", "first harm to resolution", began_s, began, ended),
    ):
        if end is None:
            yield Span(name, meaning, None, (start,))
        else:
            yield Span(name, meaning, end.at_s - start_s, _both(start, end.seq))


def _questions(facts: Facts) -> Iterator[Claim]:
    """Ask why the system let it through; a person is never the answer."""
    for linked in facts.causes[:1]:
        kind = linked.event.finding.kind
        yield Claim(
            f"Which change or load made {kind} possible, and why did no test show it?",
            (linked.seq,),
        )
        yield Claim(f"Why did {kind} reach users instead of one replica?", (linked.seq,))
    if missed := facts.first(e.AcknowledgementMissed):
        yield Claim(f"What kept the page from reaching {ANY_RESPONDER} in time?", (missed.seq,))
    if not facts.causes:
        yield Claim("Which signal would have named the cause?", (facts.opened.seq,))


def _both(*seqs: int) -> tuple[int, ...]:
    return tuple(sorted(set(seqs)))
