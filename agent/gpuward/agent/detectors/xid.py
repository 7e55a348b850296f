"""Judge the XIDs that the driver reported: whose fault, which process, how bad.

An XID is the driver's own error report, and most are not about hardware: counting every one as
fatal drained whole nodes for one program's bug (672 "fatal" XID 45 in three hours,
NVIDIA/NVSentinel#1710).  The catalogue says whose fault a code is; the finding stays open for a
while after the last one, because the line is written once and the trouble lasts; one that took the
GPU away stays open until the GPU is back.

What befalls one program may still be the GPU's: the same error in several programs, three contained
memory errors in a day, three hung contexts in an hour, two errors on one link.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.lost_gpu import TAKING_XIDS
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Outcome,
    Result,
    SeriesKey,
)
from gpuward.agent.subject import subject_of
from gpuward.agent.xid_catalogue import Fault, Xid
from gpuward.agent.xid_line import link_of
from gpuward.agent.xid_storm import CLEAN_UP, EVENTS
from gpuward.agent.xid_verdict import RECOVERY_CHANGED, action, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.model import Event
    from gpuward.agent.window import Window

THE_PROGRAM = frozenset({Fault.APPLICATION, Fault.INFORMATION})
CONTAINED, CONTEXT_SWITCH = 94, 109
LINK_ERRORS = frozenset({74, *range(144, 151)})
# XIDs that follow from another, or add to it, and from which: none named, from any.
FOLLOWS: dict[int, frozenset[int]] = {
    CLEAN_UP: frozenset(),
    RECOVERY_CHANGED: frozenset(),
    171: frozenset({48}),
    172: frozenset({48}),
}
# What NVML says of the same rows; the event is the past, the flag is now.
FLAG_OF = {63: "gpu_row_remap_pending", 64: "gpu_row_remap_failed"}

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
    # So many errors of one code in an hour on one GPU make a ticket of a program's: a crash that
    # its supervisor mends is none, and writes several lines.
    repeated: int = 3
    # In so many programs they are the GPU's (NVSentinel's ADR-007).
    programs: int = 2
    # So many contained memory errors in a day, or hung contexts in an hour, are no accident.
    contained_in_a_day: int = 3
    context_switches: int = 3
    # Errors on one link in an hour.
    on_one_link: int = 2
    # A clean-up this soon after another XID belongs to it.
    clean_up_s: float = 60.0
    # The driver logs what belongs together in any order.
    same_s: float = 1.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding per GPU, code and, where a program is at fault, process.

    Doubtful, so that what is open stays so, while a GPU is not known to be back.
    """
    yield from _still_away(window)
    groups: dict[tuple[str, int], list[Event]] = {}
    for event in window.events(KIND.name, window.now_s - limits.hardware_hold_s):
        groups.setdefault((event.gpu, event.code), []).append(event)
    for events in groups.values():
        whole = _of_the_gpu(window, limits, events)
        for blamed in _blamed(window, events):
            program = _finding(window, limits, blamed)
            if program is None or (whole and program.dedup_key == whole.dedup_key):
                continue
            causes = (*program.causes, *([whole.dedup_key] if whole else ()))
            yield replace(program, causes=causes)
        if whole is not None:
            yield whole


def _still_away(window: Window) -> Iterator[Finding]:
    known = (gpu.uuid for gpu in window.gpus)
    away = (lost.gpu for lost in window.driver.lost) if window.driver.up else known
    for gpu in filter(None, away):
        about = subject_of(window, gpu=gpu)
        for code in TAKING_XIDS:
            text = f"The GPU is not back after XID {code}."
            yield Finding(KIND.name, about, text, outcome=Outcome.DOUBTFUL, code=code)


def _blamed(window: Window, events: Sequence[Event]) -> Iterator[list[Event]]:
    """Yield the events of one GPU and code by whom they blame; a storm of clean-ups is one."""
    by_program: dict[str, list[Event]] = {}
    for event in events:
        is_program = verdict(window, event).fault in THE_PROGRAM
        blamed = event.process if is_program and event.code != CLEAN_UP else ""
        by_program.setdefault(blamed, []).append(event)
    yield from by_program.values()


def _finding(window: Window, limits: Limits, events: Sequence[Event]) -> Finding | None:
    last = events[-1]
    causes = _cause(window, limits, events)
    xid = _worst(window, limits, events)
    is_program = xid.fault in THE_PROGRAM
    hold_s = limits.application_hold_s if is_program else limits.hardware_hold_s
    if last.at_s < window.now_s - hold_s:
        return None
    often = _errors(events, limits) >= limits.repeated and xid.fault is Fault.APPLICATION
    # A clean-up follows from something; when nothing was reported, somebody must look.
    is_worth_a_look = not causes if last.code == CLEAN_UP else often
    if is_worth_a_look and xid.result is Result.OK:
        xid = replace(xid, result=Result.WARN)
    process, pid = (last.process, last.pid) if is_program else ("", 0)
    if last.code == CLEAN_UP and len({event.process for event in events}) > 1:
        process, pid = "", 0
    return Finding(
        kind=KIND.name,
        subject=subject_of(window, gpu=last.gpu, process=process, pid=pid),
        summary=f"XID {last.code}: {xid.meaning}.",
        result=xid.result,
        code=last.code,
        since_s=events[0].at_s,
        evidence=(*_evidence(xid, events), *_flag(window, last)),
        action=action(last, xid),
        causes=causes,
    )


def _of_the_gpu(window: Window, limits: Limits, events: Sequence[Event]) -> Finding | None:
    """Return the finding about the GPU that errors of programs come to, if they do."""
    last = events[-1]
    xid = verdict(window, last)
    if xid.fault is not Fault.APPLICATION or last.code == CLEAN_UP:
        return None
    programs = {event.process for event in events if event.process}
    in_a_day = max(event.values.get("xid_in_a_day", 0.0) for event in events)
    if last.code == CONTAINED and in_a_day >= limits.contained_in_a_day:
        result, words, help_ = Result.FAIL, f"{in_a_day:.0f} in a day", Action.RESET_GPU
    elif last.code == CONTEXT_SWITCH and times(events) >= limits.context_switches:
        result, words, help_ = Result.FAIL, f"{times(events):.0f} in an hour", Action.RESET_GPU
    elif _errors(events, limits) >= limits.repeated and len(programs) >= limits.programs:
        # One program's bug does not move to another.
        result, words, help_ = Result.WARN, f"in {len(programs)} programs", Action.DRAIN_NODE
    else:
        return None
    return Finding(
        kind=KIND.name,
        subject=subject_of(window, gpu=last.gpu),
        summary=f"XID {last.code}: {xid.meaning}, {words}.",
        result=result,
        code=last.code,
        since_s=events[0].at_s,
        evidence=(
            *_evidence(xid, events),
            Evidence("xid_programs", float(len(programs)), "1", source="kmsg", at_s=last.at_s),
        ),
        action=help_,
    )


def times(events: Sequence[Event]) -> float:
    """Return for how many XIDs the events stand: one of a storm stands for many."""
    return sum(event.values.get(EVENTS, 1.0) for event in events)


def _errors(events: Sequence[Event], limits: Limits) -> int:
    """Return how many errors the events are of: one exception writes a line for each unit it met.

    A storm is told once a minute, so one that goes on counts up all the same.
    """
    at_s = sorted(event.at_s for event in events)
    return 1 + sum(after - before >= limits.same_s for before, after in pairwise(at_s))


def _worst(window: Window, limits: Limits, events: Sequence[Event]) -> Xid:
    """Return what the last event means; of link errors the worst, and worse when on one link."""
    last = events[-1]
    if last.code not in LINK_ERRORS:
        return verdict(window, last)
    found = [verdict(window, event) for event in events]
    xid = next((xid for xid in found if xid.result is Result.FAIL), found[-1])
    links = Counter(link_of(event.text) for event in events)
    del links[None]
    if xid.result is Result.WARN and max(links.values(), default=0) >= limits.on_one_link:
        return replace(xid, result=Result.FAIL)
    return xid


def _evidence(xid: Xid, events: Sequence[Event]) -> Iterator[Evidence]:
    last = events[-1]
    yield Evidence("xid_fault", text=xid.fault.value, source="catalogue")
    yield Evidence("xid_events", times(events), "1", source="kmsg", at_s=last.at_s)
    yield Evidence("xid_line", text=last.text, source="kmsg", at_s=last.at_s)
    if xid.advice:
        yield Evidence("xid_advice", text=xid.advice, source="NVIDIA's catalogue")
    if xid.why:
        yield Evidence("xid_note", text=xid.why, source="catalogue")
    if boots := last.values.get("xid_earlier_boots", 0.0):
        yield Evidence("xid_earlier_boots", boots, "1", source="kmsg", at_s=last.at_s)


def _flag(window: Window, event: Event) -> Iterator[Evidence]:
    """Yield what NVML says now of the rows that a remapping event was about."""
    signal = FLAG_OF.get(event.code)
    flag = window.latest(SeriesKey(signal, gpu=event.gpu)) if signal else None
    if signal and flag is not None:
        yield Evidence(signal, flag.value, "1", source="nvml", at_s=flag.at_s)


def _cause(window: Window, limits: Limits, events: Sequence[Event]) -> tuple[str, ...]:
    """Return the key of the finding that these events follow from or add to, if there is one."""
    last = events[-1]
    if last.code not in FOLLOWS:
        return ()
    first_s, wanted = _began_s(events, limits), FOLLOWS[last.code]
    earlier = [
        other
        for other in window.events(KIND.name, first_s - limits.clean_up_s)
        if other.gpu == last.gpu
        and other.code not in FOLLOWS
        and (not wanted or other.code in wanted)
        and other.at_s <= last.at_s + limits.same_s
    ]
    if not earlier:
        return ()
    blamed = earlier[-1].process if verdict(window, earlier[-1]).fault in THE_PROGRAM else ""
    about = subject_of(window, gpu=last.gpu, process=blamed)
    return (Finding(KIND.name, about, "", code=earlier[-1].code).dedup_key,)


def _began_s(events: Sequence[Event], limits: Limits) -> float:
    """Return when the run of events began that the last one belongs to."""
    began_s = events[-1].at_s
    for event in reversed(events):
        # One a minute is told of a storm.
        if began_s - event.at_s > 2 * limits.clean_up_s:
            break
        began_s = event.at_s
    return began_s
