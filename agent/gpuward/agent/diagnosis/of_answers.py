"""Evidence in what replicas answer to the canary: the same question, again and again.

A GPU that computes wrong is not slow, and says nothing.  Whether it is the replica, or the model
that was changed everywhere, only the others tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.detectors import service_canary
from gpuward.agent.diagnosis.seen import UNKNOWN, Seen, presence
from gpuward.agent.diagnosis.told import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.model import Sample

EVIDENCE = "endpoint_canary_evidence_ratio"
# As the canary's detector has it: from the one it is doubtful, from the other it is so.
DOUBTFUL, OTHERWISE = 0.5, 1.0

differ = told(service_canary.detect, needs=EVIDENCE)


def siblings_agree(case: Case) -> Seen:
    """Look whether most of the other replicas of the service still answer as they did."""
    found = tuple(_siblings(case))
    agree = sum(each.value < DOUBTFUL for each in found)
    differ = sum(each.value >= OTHERWISE for each in found)
    if agree == differ:
        return UNKNOWN
    return Seen(
        presence(is_there=agree > differ),
        float(agree),
        "1",
        source="endpoint",
        at_s=max(each.at_s for each in found),
    )


def _siblings(case: Case) -> Iterator[Sample]:
    for key in case.window.keys(EVIDENCE):
        sample = case.window.latest(key)
        if key.service == case.service and key.endpoint != case.endpoint and sample:
            yield sample
