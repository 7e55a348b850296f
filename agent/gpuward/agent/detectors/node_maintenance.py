"""Tell that the driver of the node is being changed on purpose, and until when.

It is no trouble of its own.  It explains what else is found about hardware meanwhile, which is kept
as evidence and told to nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.kind import Kind
from gpuward.agent.maintenance import KIND_NAME
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
from gpuward.agent.window import NOT_LOOKED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

KIND = Kind(
    name=KIND_NAME,
    default_class=FindingClass.STORE,
    domain=CauseDomain.DRIVER,
    action=Action.NONE,
    meaning="The driver is being changed on purpose; faults of hardware are expected meanwhile.",
    clear_after_s=0.0,
)


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding for the node while maintenance is under way."""
    maintenance = window.driver.maintenance
    if window.driver == NOT_LOOKED:
        about = subject_of(window)
        yield Finding(KIND.name, about, "The driver is not looked at.", outcome=Outcome.UNKNOWN)
    elif maintenance is not None:
        left_s = maintenance.until_s - window.now_s
        yield Finding(
            kind=KIND.name,
            subject=subject_of(window),
            summary=f"Maintenance: {maintenance.reason.rstrip('.')}.",
            result=Result.OK,
            since_s=maintenance.since_s,
            evidence=(
                Evidence("maintenance_left_seconds", left_s, "seconds"),
                Evidence("asked_for", text="a person" if maintenance.is_release else "the driver"),
            ),
        )
