"""Hold on to the cause that was named, while another leads by a little or for a moment only.

Evidence comes and goes at its limits, and a cause that changes with every look is believed by
nobody.  What is named keeps its name while it is possible, until without a margin in its favour it
has not been the answer for a minute.  New hard evidence does not wait: a card that has just
reported a fault is the cause now, whatever was said before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpuward.agent.diagnosis.hypotheses import HYPOTHESES
from gpuward.agent.diagnosis.hypothesis import Source
from gpuward.agent.diagnosis.verdict import UNDETERMINED, favouring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.agent.diagnosis.verdict import Verdict

# Decibans: more than a sign at its limit weighs, less than the lead that a verdict takes.
MARGIN = 6.0
# Evidence looks back a minute, so a bad moment counts for so long.
HOLD_S = 60.0
# What it rests on may show at once, or a look of other parts later.
NEW_S = 30.0
# Decibans of a sign that a datasheet vouches for.
HARD = 20.0
HARD_SIGNS: dict[str, frozenset[str]] = {
    hypothesis.name: frozenset(
        sign.item
        for sign in hypothesis.signs
        if sign.source is Source.DATASHEET and sign.present >= HARD
    )
    for hypothesis in HYPOTHESES
}


@dataclass(frozen=True, slots=True)
class Held:
    """``doubted_since_s``: since when it would be another; ``None`` while it would not."""

    name: str
    doubted_since_s: float | None = None
    # Hard evidence that is there, and since when.
    hard: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def begun(name: str, verdict: Verdict) -> Held:
    """Return what is held of a verdict that somebody has named ``name``."""
    return Held(name, None, MappingProxyType(dict.fromkeys(_hard(verdict), -inf)))


def settled(held: Held, verdict: Verdict, now_s: float) -> Held:
    """Return what is to be named after a look at ``now_s`` that came to ``verdict``."""
    hard = {item: held.hard.get(item, now_s) for item in _hard(verdict)}
    new = frozenset(item for item, since_s in hard.items() if now_s - since_s <= NEW_S)
    after = replace(held, hard=MappingProxyType(hard))
    if not _can_stay(held.name, verdict) or _has_new(verdict, held.name, new):
        return replace(after, name=verdict.name, doubted_since_s=None)
    if held.name in (verdict.name, favouring(verdict.ranked, held.name, MARGIN)):
        return replace(after, doubted_since_s=None)
    since_s = now_s if held.doubted_since_s is None else held.doubted_since_s
    if now_s - since_s >= HOLD_S:
        return replace(after, name=verdict.name, doubted_since_s=None)
    return replace(after, doubted_since_s=since_s)


def _can_stay(name: str, verdict: Verdict) -> bool:
    """Return whether ``name`` is a cause that is still possible; "I do not know" never stays."""
    return name != UNDETERMINED and any(each.name == name for each in verdict.ranked)


def _has_new(verdict: Verdict, other: str, new: frozenset[str]) -> bool:
    """Return whether new hard evidence speaks for what the verdict names, not for ``other``."""
    own = HARD_SIGNS.get(verdict.name, frozenset()) - HARD_SIGNS[other]
    return bool(own & new)


def _hard(verdict: Verdict) -> frozenset[str]:
    items = frozenset().union(*HARD_SIGNS.values())
    return frozenset(item for item in items if verdict.seen[item].is_certain)
