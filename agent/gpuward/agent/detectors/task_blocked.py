"""Tell that the kernel found a task blocked for minutes inside the NVIDIA driver.

The kernel looks by itself, every two minutes, and says so with the task's stack: a second witness
when the driver does not answer, and the first when the task that waits is an engine's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.model import Action, CauseDomain, Evidence, Finding, FindingClass, Result
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

KIND = Kind(
    name="driver.task_blocked",
    default_class=FindingClass.STORE,
    domain=CauseDomain.DRIVER,
    action=Action.NONE,
    meaning="The kernel found a task blocked for minutes inside the driver.",
    clear_after_s=15.0,
)
# The kernel repeats it every two minutes, ten times at most (hung_task_warnings).
HOLD_S = 300.0


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding while the kernel says so; about the node, as the driver is one."""
    events = window.events(KIND.name, window.now_s - HOLD_S)
    if not events:
        return
    last = events[-1]
    tasks = {event.process or str(event.pid) for event in events}
    blocked_s = last.values.get("blocked_seconds", 0.0)
    yield Finding(
        kind=KIND.name,
        subject=subject_of(window),
        summary=f"The kernel found {len(tasks)} task(s) blocked inside the driver.",
        result=Result.WARN,
        since_s=events[0].at_s - blocked_s,
        evidence=(
            Evidence("blocked_tasks", float(len(tasks)), "1", source="kmsg", at_s=last.at_s),
            Evidence("blocked_seconds", blocked_s, "seconds", source="kmsg", at_s=last.at_s),
            Evidence("blocked_task", text=last.process or f"pid {last.pid}", source="kmsg"),
        ),
    )
