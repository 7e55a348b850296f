"""Every kind of finding by its name: those that detectors judge, and those that only happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.detectors import DETECTORS
from gpuward.agent.kind import Kind
from gpuward.agent.model import Action, CauseDomain, FindingClass, Result

if TYPE_CHECKING:
    from gpuward.agent.model import Finding

# A sampler saw it happen, and it is over: see ``one_shot``.
HAPPENINGS: tuple[Kind, ...] = (
    Kind(
        name="driver.reloaded",
        default_class=FindingClass.STORE,
        domain=CauseDomain.DRIVER,
        action=Action.NONE,
        meaning="The driver was unloaded and loaded again, perhaps in another version.",
    ),
    Kind(
        name="driver.version_mismatch",
        default_class=FindingClass.STORE,
        domain=CauseDomain.DRIVER,
        action=Action.CHECK_APPLICATION,
        meaning="A program brought a driver library of another version than the kernel module.",
    ),
    Kind(
        name="process.memory.oom",
        default_class=FindingClass.TICKET,
        domain=CauseDomain.CAPACITY,
        action=Action.CHECK_APPLICATION,
        meaning="A torch process asked for GPU memory and got none.",
    ),
)

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (*(detector.kind for detector in DETECTORS), *HAPPENINGS)
}


def class_of(finding: Finding) -> FindingClass:
    """Return how loud it is: as its kind, but a page's failure louder, and no fault silent."""
    if finding.drill is not None:
        return finding.drill
    kind = KINDS[finding.kind]
    if finding.in_maintenance or finding.result is Result.OK:
        return FindingClass.STORE
    if finding.result is Result.FAIL and kind.page_when_failed:
        return FindingClass.PAGE
    return kind.default_class
