"""Detect a node with GPUs and no driver that could be asked about them.

The module was not loaded after an update of the kernel, or crashed; or the library was replaced
under a module that still is the old one, which keeps every new engine from starting while those
that run go on as if nothing had happened.
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
    SeriesKey,
)
from gpuward.agent.subject import subject_of
from gpuward.agent.window import NOT_LOOKED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

ORPHANS = "node_gpus_without_driver"
LIBRARY_MISMATCH = 18

KIND = Kind(
    name="driver.missing",
    default_class=FindingClass.PAGE,
    domain=CauseDomain.DRIVER,
    action=Action.INSTALL_DRIVER,
    meaning="The node has GPUs, and no driver that answers for them.",
    # A driver that is restarted, or an agent that starts before it, is not a missing one.
    raise_after_s=120.0,
    clear_after_s=10.0,
)


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding for the node; unknown while nobody looks, and during maintenance."""
    driver = window.driver
    if driver == NOT_LOOKED or driver.maintenance is not None:
        yield Finding(KIND.name, subject_of(window), "No look.", outcome=Outcome.UNKNOWN)
        return
    orphans = window.latest(SeriesKey(ORPHANS))
    count = len(window.gpus) or int(orphans.value if orphans else 0)
    # A driver that hangs in its first call is not missing, and has its own finding.
    if driver.up or driver.waiting_s > 0 or not count:
        return
    yield Finding(
        kind=KIND.name,
        subject=subject_of(window),
        summary=f"No driver answers for {count} GPUs: {driver.reason.rstrip('.')}.",
        code=driver.code,
        evidence=(
            Evidence("gpus_without_driver", float(count), "1", source="pci"),
            Evidence("nvml_error", float(driver.code), text=driver.reason, source="nvml"),
        ),
        # With the right library the driver that is loaded would serve.
        action=Action.REBOOT_NODE if driver.code == LIBRARY_MISMATCH else None,
    )
