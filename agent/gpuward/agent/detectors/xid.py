"""Judge the XIDs that the driver logged: whose fault, which process, how bad.

An XID is the driver's own error report, and most are not about hardware: counting every one as
fatal drained whole nodes for one program's bug (672 "fatal" XID 45 in three hours,
NVIDIA/NVSentinel#1710).  The catalogue says whose fault a code is; the finding stays open for a
while after the last one, because the line is written once and the trouble lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.model import Action, CauseDomain, Evidence, Finding, FindingClass, Result
from gpuward.agent.subject import subject_of
from gpuward.agent.xid_catalogue import ACTIONS, CATALOGUE, UNLISTED, Fault, Xid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.model import Event
    from gpuward.agent.window import Window

# "Preemptive removal": the driver cleans up a channel after another error.
CLEAN_UP = 45
THE_PROGRAM = frozenset({Fault.APPLICATION, Fault.INFORMATION})

KIND = Kind(
    name="gpu.xid",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.CHECK_APPLICATION,
    meaning="The driver reported an XID; the code says whose fault it is.",
    # The detector itself holds it open after the last event; this is for a restart, until the
    # kernel's log has been read again.
    clear_after_s=15.0,
    # A GPU off the bus is a hard fault; a program's own error is neither page nor ticket.
    page_when_failed=True,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a finding outlives its last event, and when a program's errors become the GPU's."""

    application_hold_s: float = 600.0
    # The longest that a window keeps events; a lost GPU does not come back by itself.
    hardware_hold_s: float = 3_600.0
    # This many of one code in an hour on one GPU make a ticket of a program's errors.
    repeated: int = 3
    # A clean-up this soon after another XID belongs to it.
    clean_up_s: float = 60.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding per GPU, code and, where a program is at fault, process."""
    groups: dict[tuple[str, int, str], list[Event]] = {}
    for event in window.events(KIND.name, window.now_s - limits.hardware_hold_s):
        blamed = event.process if _xid(event).fault in THE_PROGRAM else ""
        groups.setdefault((event.gpu, event.code, blamed), []).append(event)
    for events in groups.values():
        xid = _xid(events[0])
        program = xid.fault in THE_PROGRAM
        hold_s = limits.application_hold_s if program else limits.hardware_hold_s
        if events[-1].at_s >= window.now_s - hold_s:
            yield _finding(window, limits, xid, events)


def _finding(window: Window, limits: Limits, xid: Xid, events: Sequence[Event]) -> Finding:
    last = events[-1]
    if xid.fault in THE_PROGRAM:
        subject = subject_of(window, gpu=last.gpu, process=last.process, pid=last.pid)
    else:
        subject = subject_of(window, gpu=last.gpu)
    often = len(events) >= limits.repeated and xid.fault is Fault.APPLICATION
    result = Result.WARN if often and xid.result is Result.OK else xid.result
    return Finding(
        kind=KIND.name,
        subject=subject,
        summary=f"XID {last.code}: {xid.meaning}.",
        result=result,
        code=last.code,
        since_s=events[0].at_s,
        evidence=_evidence(xid, events),
        action=ACTIONS[xid.fault],
        causes=_cause(window, limits, last),
    )


def _evidence(xid: Xid, events: Sequence[Event]) -> tuple[Evidence, ...]:
    last = events[-1]
    return (
        Evidence("xid_fault", text=xid.fault.value, source="catalogue"),
        Evidence("xid_events", float(len(events)), "1", source="kmsg", at_s=last.at_s),
        Evidence("xid_line", text=last.text, source="kmsg", at_s=last.at_s),
    )


def _cause(window: Window, limits: Limits, event: Event) -> tuple[str, ...]:
    """Return the key of the finding that a clean-up follows from, if there is one."""
    if event.code != CLEAN_UP:
        return ()
    earlier = [
        other
        for other in window.events(KIND.name, event.at_s - limits.clean_up_s)
        if other.gpu == event.gpu and other.code != CLEAN_UP and other.at_s <= event.at_s
    ]
    if not earlier:
        return ()
    blamed = earlier[-1].process if _xid(earlier[-1]).fault in THE_PROGRAM else ""
    about = subject_of(window, gpu=event.gpu, process=blamed)
    return (Finding(KIND.name, about, "", code=earlier[-1].code).dedup_key,)


def _xid(event: Event) -> Xid:
    return CATALOGUE.get(event.code, UNLISTED)
