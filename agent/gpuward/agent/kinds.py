"""Every kind of finding, once: how loud it is, whose domain, how long it must last, what helps.

An anomaly alone never pages: PAGE is for hard faults only.  The coordinator may promote or demote
a kind; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpuward.agent.model import Action, CauseDomain, FindingClass


@dataclass(frozen=True, slots=True)
class Kind:
    """What is true of every finding of a kind.

    ``raise_after_s``: the condition must be seen for this long before it raises (0: at once).
    ``clear_after_s``: it must be gone for this long before it clears.
    """

    name: str
    default_class: FindingClass
    domain: CauseDomain
    action: Action
    meaning: str
    raise_after_s: float = 0.0
    clear_after_s: float = 60.0
    # A WARN result has the default class, a FAIL result pages.  OK (evidence only) is stored.
    page_when_failed: bool = False


_ALL = (
    Kind(
        name="driver.unresponsive",
        default_class=FindingClass.TICKET,
        domain=CauseDomain.DRIVER,
        action=Action.REBOOT_NODE,
        meaning="A driver call has not returned: stalled after 10 s, hung after 60 s.",
        page_when_failed=True,
        clear_after_s=30.0,
    ),
    Kind(
        name="gpu.memory.saturation",
        default_class=FindingClass.TICKET,
        domain=CauseDomain.CAPACITY,
        action=Action.SCALE_UP,
        meaning="Almost all memory of a GPU is in use, so the next large request fails.",
        raise_after_s=5.0,
        clear_after_s=30.0,
    ),
    Kind(
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
    ),
    Kind(
        name="process.memory.fragmentation",
        default_class=FindingClass.TICKET,
        domain=CauseDomain.CAPACITY,
        action=Action.RESTART_APPLICATION,
        meaning="A torch process holds memory that it can neither use nor give back.",
        raise_after_s=3.0,
        clear_after_s=30.0,
    ),
    Kind(
        name="process.memory.oom",
        default_class=FindingClass.TICKET,
        domain=CauseDomain.CAPACITY,
        action=Action.CHECK_APPLICATION,
        meaning="A torch process asked for GPU memory and got none.",
    ),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
