"""Tell that the kernel's log cannot be read, so that XIDs may pass unseen.

The driver reports most faults nowhere else.  Reading needs CAP_SYSLOG, or a container that is given
``/dev/kmsg``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

READABLE = "node_kmsg_readable"

KIND = Kind(
    name="node.kmsg_unreadable",
    default_class=FindingClass.STORE,
    domain=CauseDomain.DRIVER,
    action=Action.NONE,
    meaning="The kernel's log cannot be read: what the driver reports there passes unseen.",
    # A log that is being replaced is away for a moment.
    raise_after_s=10.0,
    clear_after_s=10.0,
)


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding for the node; unknown while nobody tries."""
    readable, about = window.latest(SeriesKey(READABLE)), subject_of(window)
    if readable is None:
        yield Finding(KIND.name, about, "The log is not looked at.", outcome=Outcome.UNKNOWN)
    elif not readable.value:
        yield Finding(
            kind=KIND.name,
            subject=about,
            summary="The kernel's log cannot be read.",
            result=Result.WARN,
            evidence=(Evidence(READABLE, 0.0, "1", source="kmsg", at_s=readable.at_s),),
        )
