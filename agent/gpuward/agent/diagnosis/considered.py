"""All causes that there are, as they stand for one replica: possible, ruled out, or out of sight.

A verdict names one; whoever doubts it asks what else it could be, and why it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.diagnosis.evidence import ITEMS
from gpuward.agent.diagnosis.hypotheses import HYPOTHESES

if TYPE_CHECKING:
    from gpuward.agent.diagnosis.hypothesis import Hypothesis
    from gpuward.agent.diagnosis.verdict import Standing, Verdict

OUTWEIGHED = "more speaks against it than for it"
IN_PARTICULAR = "what slows the GPU is known"


@dataclass(frozen=True, slots=True)
class Considered:
    """One of three: ``standing`` where it is possible, else why it is ``ruled_out`` or unknown."""

    hypothesis: Hypothesis
    standing: Standing | None = None
    ruled_out: str = ""
    unknown: str = ""


def considered(verdict: Verdict) -> tuple[Considered, ...]:
    """Return every cause once: the possible ones as ranked, the others in order of precedence."""
    possible = {each.name for each in verdict.ranked}
    return (
        *(Considered(each.hypothesis, each) for each in verdict.ranked),
        *(_not_possible(each, verdict) for each in HYPOTHESES if each.name not in possible),
    )


def _not_possible(hypothesis: Hypothesis, verdict: Verdict) -> Considered:
    """Return why it is not: a shut gate first, because without it nothing else counts."""
    seen = verdict.seen
    if any(seen[gate].is_present for gate in hypothesis.gate):
        has_child = any(each.hypothesis.parent == hypothesis.name for each in verdict.ranked)
        why = IN_PARTICULAR if has_child else OUTWEIGHED
        return Considered(hypothesis, ruled_out=why)
    unknown = [ITEMS[gate].words for gate in hypothesis.gate if seen[gate].is_unknown]
    if unknown:
        return Considered(hypothesis, unknown=", or ".join(unknown))
    shut = [ITEMS[gate].words for gate in hypothesis.gate]
    return Considered(hypothesis, ruled_out=f"not so: {', nor: '.join(shut)}")
