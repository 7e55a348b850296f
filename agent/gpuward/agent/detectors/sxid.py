"""Judge the SXids that the driver of the NVSwitches reported.

A switch is shared: a fatal error of one stops the NVLink traffic of every GPU behind it, and the
GPUs only show that they wait.  The line names the switch and mostly the link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.model import Action, CauseDomain, Evidence, Finding, FindingClass, Result
from gpuward.agent.subject import subject_of
from gpuward.agent.sxid_catalogue import judge
from gpuward.agent.xid_storm import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.model import Event
    from gpuward.agent.window import Window

KIND = Kind(
    name="node.sxid",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.NONE,
    meaning="An NVSwitch reported an SXid; fatal ones stop the traffic of the GPUs behind it.",
    # The detector holds it open; this is for a restart, until the log has been read again.
    clear_after_s=15.0,
    page_when_failed=True,
)
# The line is written once and the trouble lasts; as long as a window keeps events.
HOLD_S = 3_600.0


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per number, whichever switches and links it came from."""
    by_code: dict[int, list[Event]] = {}
    for event in window.events(KIND.name, window.now_s - HOLD_S):
        by_code.setdefault(event.code, []).append(event)
    for code, events in by_code.items():
        fatal = any(event.values.get("fatal") for event in events)
        result, action, meaning = judge(code, fatal=fatal)
        yield Finding(
            kind=KIND.name,
            subject=subject_of(window),
            summary=f"SXid {code} of NVSwitch {_numbers(events, 'switch')}: {meaning}.",
            result=result,
            code=code,
            since_s=events[0].at_s,
            evidence=tuple(_evidence(events, result)),
            action=action,
        )


def _evidence(events: Sequence[Event], result: Result) -> Iterator[Evidence]:
    last = events[-1]
    count = sum(event.values.get(EVENTS, 1.0) for event in events)
    yield Evidence("sxid_events", count, "1", source="kmsg", at_s=last.at_s)
    yield Evidence("sxid_line", text=last.text, source="kmsg", at_s=last.at_s)
    yield Evidence("nvswitches", text=_numbers(events, "switch"), source="kmsg")
    if links := _numbers(events, "link"):
        yield Evidence("nvswitch_links", text=links, source="kmsg")
    yield Evidence("sxid_result", text=result.value, source="catalogue")


def _numbers(events: Sequence[Event], name: str) -> str:
    numbers = sorted({int(event.values[name]) for event in events if name in event.values})
    return ", ".join(str(number) for number in numbers)
