"""Detect a GPU that the driver could not initialise, as it says in the kernel's log.

Such a GPU is on the bus but in nobody's list, and no XID need come with it: ``RmInitAdapter
failed``, or an assertion that ends in ``NV_ERR_RESET_REQUIRED``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.model import Action, CauseDomain, Evidence, Finding, FindingClass, Result
from gpuward.agent.subject import subject_of
from gpuward.agent.xid_storm import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Event
    from gpuward.agent.window import Window

KIND = Kind(
    name="gpu.init_failed",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.GPU,
    action=Action.RESET_GPU,
    meaning="The driver could not initialise a GPU, or says that it needs a reset first.",
    clear_after_s=15.0,
)
# The driver tries again, and says so again, each time that somebody opens the GPU.
HOLD_S = 600.0


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per GPU; all whose UUID nobody knows share one."""
    by_gpu: dict[str, list[Event]] = {}
    for event in window.events(KIND.name, window.now_s - HOLD_S):
        by_gpu.setdefault(event.gpu, []).append(event)
    for gpu, events in by_gpu.items():
        last = events[-1]
        count = sum(event.values.get(EVENTS, 1.0) for event in events)
        yield Finding(
            kind=KIND.name,
            subject=subject_of(window, gpu=gpu),
            summary="The driver could not initialise a GPU.",
            result=Result.WARN,
            since_s=events[0].at_s,
            evidence=(
                Evidence("failures", count, "1", source="kmsg", at_s=last.at_s),
                Evidence("driver_line", text=last.text, source="kmsg", at_s=last.at_s),
            ),
        )
