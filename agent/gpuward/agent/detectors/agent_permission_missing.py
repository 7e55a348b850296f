"""Tell which driver calls this agent's user is not allowed to make.

What they would have told is not looked at, and an operator who reads that nothing is wrong should
know it.  The unit that comes with the agent has what it needs; a container may not.
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
)
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

KIND = Kind(
    name="agent.permission_missing",
    default_class=FindingClass.STORE,
    domain=CauseDomain.DRIVER,
    action=Action.NONE,
    meaning="The driver refuses calls to the agent's user: what they tell is not looked at.",
    clear_after_s=0.0,
)


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding for the node; unknown while the driver is down."""
    driver, about = window.driver, subject_of(window)
    if not driver.up:
        yield Finding(KIND.name, about, "The driver is down.", outcome=Outcome.UNKNOWN)
    elif driver.denied:
        yield Finding(
            kind=KIND.name,
            subject=about,
            summary=f"The driver refuses {len(driver.denied)} calls to the agent's user.",
            result=Result.WARN,
            evidence=tuple(
                Evidence("refused_call", text=call, source="nvml") for call in driver.denied
            ),
        )
