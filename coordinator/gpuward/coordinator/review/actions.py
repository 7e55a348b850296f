"""Propose what to do after an incident: rules that read the facts, never a person's opinion.

Each rule yields items with an owner and a deadline; the review marks them as proposed.  The owner
is a role, because the person who holds it next week may be another.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from gpuward.coordinator import events as e
from gpuward.coordinator.cause import EFFECTS, VERDICT
from gpuward.coordinator.model import Severity
from gpuward.coordinator.review.model import ActionItem, Claim
from gpuward.coordinator.review.wording import duration, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.coordinator.review.facts import At, Facts

SATURDAY = 5

# Days until an item is due, from the end of the incident: what may bite again tomorrow is soon.
ON_CALL_DAYS = 2
DETECT_DAYS = 14
MITIGATE_DAYS = 14
PREVENT_DAYS = {Severity.SEV1: 7, Severity.SEV2: 14}

# Longer than one evaluation of severity plus one report of an agent: worth a look.
LATE_DETECTION_S = 60.0
# Response time of SEV2 (MISSION) and half an hour until leadership hears of it.
SLOW_MITIGATION_S = 1800.0

PREVENT = {
    "process.memory.fragmentation": (
        "Keep the allocator from stranding memory: turn on expandable segments or bound request"
        " sizes, and restart replicas in turn before their headroom runs out"
    ),
    "gpu.memory.saturation": (
        "Give the engine a smaller share of GPU memory or the service more replicas, and admit"
        " requests by free memory"
    ),
    "process.memory.headroom_low": (
        "Give the engine a smaller share of GPU memory or the service more replicas, so that its"
        " largest requests fit"
    ),
    "process.memory.leak_suspected": (
        "Find and mend what keeps the memory; until then restart replicas in turn before it is gone"
    ),
    "process.memory.neighbour_pressure": (
        "Keep other processes off the service's GPUs, or bound the memory that each may take"
    ),
    VERDICT: "Take away the cause that the verdict names, and test for it before users do",
    "gpu.xid": (
        "Follow the XID catalogue for this GPU: test it out of service, then return or replace it"
    ),
    "driver.unresponsive": (
        "Drain a node automatically when its driver stalls, and qualify the driver version that did"
    ),
}

# How a cause shows, or who names it.  Beside the cause they are no work of their own.
SIGNS = EFFECTS | {"process.memory.headroom_low", "process.memory.alloc_retries", VERDICT}
# Says why less is known, not what went wrong.
NO_ACTION = frozenset({"process.memory.blind"})


def propose(facts: Facts) -> Iterator[ActionItem]:
    """Yield items in the order prevent, detect, mitigate; at least one."""
    yield from _prevent(facts)
    yield from _detect(facts)
    yield from _mitigate(facts)
    yield from _on_call(facts)


def _prevent(facts: Facts) -> Iterator[ActionItem]:
    days = PREVENT_DAYS[facts.incident.peak_severity]
    causes = _to_prevent(facts)
    for kind, cause in causes.items():
        action = PREVENT.get(kind, f"Find out what lets {kind} reach users, and take it away")
        because = Claim(f"{kind} was found", (cause.seq,))
        yield _item(facts, "prevent", action, days, because)
    if not causes:
        action = "Find the cause, and add the detector that would have shown it"
        because = Claim("No finding that names a cause was linked", (facts.opened.seq,))
        yield _item(facts, "detect", action, days, because)


def _to_prevent(facts: Facts) -> dict[str, At[e.FindingLinked]]:
    """Return one finding of each kind that asks for work, the most probable cause first.

    A sign asks for work only where nothing that explains it was found.
    """
    found: dict[str, At[e.FindingLinked]] = {}
    for linked in facts.causes:
        kind = linked.event.finding.kind
        if kind not in NO_ACTION:
            found.setdefault(kind, linked)
    return {kind: at for kind, at in found.items() if kind not in SIGNS} or found


def _detect(facts: Facts) -> Iterator[ActionItem]:
    began_s, _ = facts.impact_began
    late_s = facts.opened.at_s - began_s
    if late_s > LATE_DETECTION_S:
        action = "Detect it sooner: page on the leading signal, not on the failed request"
        because = Claim(
            f"Users were hurt {duration(late_s)} before anyone was told", (facts.opened.seq,)
        )
        yield _item(facts, "detect", action, DETECT_DAYS, because)
    for handed in facts.all(e.HandedOver):
        if handed.event.rotation is not handed.event.before:
            action = (
                f"Route {handed.event.domain} trouble to {handed.event.rotation} from the start"
            )
            because = Claim("The incident began with another rotation", (handed.seq,))
            yield _item(facts, "detect", action, DETECT_DAYS, because)


def _mitigate(facts: Facts) -> Iterator[ActionItem]:
    relief = facts.mitigated
    began_s, began_seq = facts.impact_began
    if relief and relief.at_s - began_s > SLOW_MITIGATION_S:
        action = "Write down, rehearse and automate the mitigation that worked"
        took = duration(relief.at_s - began_s)
        because = Claim(f"Relief took {took}", tuple(sorted({began_seq, relief.seq})))
        yield _item(facts, "mitigate", action, MITIGATE_DAYS, because)


def _on_call(facts: Facts) -> Iterator[ActionItem]:
    if missed := facts.first(e.AcknowledgementMissed):
        action = "Find out what kept the page from being acknowledged in time, and mend it"
        because = Claim("An acknowledgement deadline passed", (missed.seq,))
        yield _item(facts, "mitigate", action, ON_CALL_DAYS, because)
    if nobody := facts.first(e.NobodyOnCall):
        action = "Close the gap in the on-call schedule"
        because = Claim(f"{nobody.event.level} found nobody on call", (nobody.seq,))
        yield _item(facts, "mitigate", action, ON_CALL_DAYS, because)
    for channel in dict.fromkeys(at.event.channel for at in facts.all(e.PageFailed)):
        seqs = tuple(at.seq for at in facts.all(e.PageFailed) if at.event.channel == channel)
        action = f"Repair the paging channel {channel}, and page through it as a test"
        because = Claim(f"{channel} refused a page", seqs)
        yield _item(facts, "mitigate", action, ON_CALL_DAYS, because)


def _item(facts: Facts, purpose: str, action: str, days: int, because: Claim) -> ActionItem:
    return ActionItem(
        purpose=purpose,
        action=action,
        owner=f"lead of the {facts.incident.rotation} rotation",
        due=_due(facts.entries[-1].at_s, days),
        because=because,
    )


def _due(from_s: float, days: int) -> date:
    """Return the working day, in UTC, that is at least ``days`` after ``from_s``."""
    day = moment(from_s).date() + timedelta(days=days)
    while day.weekday() >= SATURDAY:
        day += timedelta(days=1)
    return day
