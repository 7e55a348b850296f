"""What a hypothesis is: what it would show, what it cannot go without, and what to do about it.

Read a row as a rule: without one of its ``gate`` it is never named; then what is present speaks for
it, what is known to be absent against it, in decibans (10: ten times as probable).  Rows stand in
order of precedence: what one that stands ``explains`` is half the evidence for a row below it.

Weights are a judgement unless they say where they come from; priors are left out, because there are
no labelled incidents to learn them from.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.model import Action, CauseDomain


class Source(StrEnum):
    """Where a weight comes from."""

    DATASHEET = "datasheet"
    EXPERIMENT = "experiment"
    JUDGEMENT = "judgement"


@dataclass(frozen=True, slots=True)
class Sign:
    """What evidence ``item`` weighs, decibans: when it is present, and when it is absent."""

    item: str
    present: float
    absent: float = 0.0
    source: Source = Source.JUDGEMENT


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """``says``: the cause, after "because"; ``advice``: what a person does first.

    ``action`` gives way to that of the finding which opened the gate, where that has one of its
    own: only the allocator's finding says that a restart helps.
    """

    name: str
    domain: CauseDomain
    action: Action
    says: str
    advice: str
    gate: tuple[str, ...]
    signs: tuple[Sign, ...]
    explains: frozenset[str] = frozenset()
    # Of a slow GPU: named instead when two of these tie.
    parent: str = ""
    # It is over by itself, and somebody's doing: no incident has it for its cause.
    passes: bool = False


# How a GPU, or a process, that has become slow shows in the engine.
SLOWED = frozenset(
    {
        "inter_token_slow",
        "objective_missed",
        "queueing",
        "batch_full",
        "gpu_saturated",
        "host_bound",
        "kv_cache_full",
        "preemptions",
    }
)
