"""Detect that PCI has more of the driver's GPUs than answer: one failed before it had a name.

A GPU whose initialisation failed is in no list of the driver, so who counts what the driver lists
sees a smaller, healthy node.  PCI still has it, bound to the driver.
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

EXPECTED = "node_gpus_expected"
PRESENT = "node_gpus_present"

KIND = Kind(
    name="gpu.missing",
    default_class=FindingClass.PAGE,
    domain=CauseDomain.GPU,
    action=Action.DRAIN_NODE,
    meaning="The driver lists fewer GPUs than PCI has bound to it.",
    # A driver that is being loaded lists them one by one.
    raise_after_s=30.0,
    clear_after_s=30.0,
)


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding for the node; unknown while the driver or PCI has not been looked at."""
    expected = window.latest(SeriesKey(EXPECTED))
    present = window.latest(SeriesKey(PRESENT))
    subject = subject_of(window)
    if expected is None or present is None or not window.driver.up:
        yield Finding(KIND.name, subject, "The GPUs are not counted.", outcome=Outcome.UNKNOWN)
    elif present.value < expected.value:
        yield Finding(
            kind=KIND.name,
            subject=subject,
            summary=f"{present.value:.0f} of {expected.value:.0f} GPUs are there.",
            evidence=(
                Evidence(
                    PRESENT,
                    present.value,
                    "1",
                    threshold=expected.value,
                    source="nvml",
                    at_s=present.at_s,
                ),
                Evidence(EXPECTED, expected.value, "1", source="pci", at_s=expected.at_s),
            ),
        )
