"""Detect a GPU that the driver cannot reach any more, or that it wants reset before anything else.

The driver says so on every call; the GPU's figures simply end.  A GPU that fell off the bus comes
back with a cold reboot at best, one that waits for a reset with that.
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
)
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.lost_gpu import LostGpu
    from gpuward.agent.window import Window

RESET_REQUIRED = 16

KIND = Kind(
    name="gpu.lost",
    default_class=FindingClass.PAGE,
    domain=CauseDomain.GPU,
    action=Action.DRAIN_NODE,
    meaning="The driver cannot reach a GPU any more, or wants it reset.",
    # A GPU that is being reset is away for some seconds.
    raise_after_s=15.0,
    clear_after_s=30.0,
)


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per lost GPU; unknown for each GPU while the driver is down or hung.

    A GPU that never said who it is shares the finding of all such: there is nothing to name it by.
    """
    if not window.driver.up:
        for gpu in window.gpus:
            subject = subject_of(window, gpu=gpu.uuid)
            yield Finding(KIND.name, subject, "The driver is down.", outcome=Outcome.UNKNOWN)
        return
    for lost in window.driver.lost:
        yield _finding(window, lost)


def _finding(window: Window, lost: LostGpu) -> Finding:
    needs_reset = lost.code == RESET_REQUIRED
    trouble = "needs a reset" if needs_reset else "cannot be reached by the driver"
    return Finding(
        kind=KIND.name,
        subject=subject_of(window, gpu=lost.gpu),
        summary=f"GPU {lost.index} {trouble}.",
        code=lost.code,
        evidence=(Evidence("nvml_error", float(lost.code), text=lost.text, source="nvml"),),
        action=Action.RESET_GPU if needs_reset else None,
    )
