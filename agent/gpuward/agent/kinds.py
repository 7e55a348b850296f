"""Every kind of finding by its name: those that detectors judge, and those that only happen."""

from __future__ import annotations

from gpuward.agent.detectors import DETECTORS
from gpuward.agent.kind import Kind
from gpuward.agent.model import Action, CauseDomain, FindingClass

# A sampler saw it happen, and it is over: see ``one_shot``.
HAPPENINGS: tuple[Kind, ...] = (
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
