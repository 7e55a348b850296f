"""Weigh the evidence of one replica: a verdict with what speaks for it and against it, or none.

Deterministic: the same window gives the same verdict.  Where two hypotheses rest on the same
evidence and neither leads by ten decibans, the answer is "undetermined", with both and the test
that would separate them; where each has evidence of its own, both are true and the stronger one is
named first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import exp, log
from typing import TYPE_CHECKING

from gpuward.agent.diagnosis import calibration
from gpuward.agent.diagnosis.evidence import CAPS, ITEMS, OPENING
from gpuward.agent.diagnosis.hypotheses import HYPOTHESES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.diagnosis.evidence import Group
    from gpuward.agent.diagnosis.hypothesis import Hypothesis
    from gpuward.agent.diagnosis.seen import Seen

UNDETERMINED = "undetermined"

# Decibans.  One that has fewer does not stand: it is neither named nor does it explain anything.
LEAST = 14.0
LEAD = 10.0
# What a second one must have that the first does not share.
OWN = 10.0
# What speaks for "something that is not on the list", always.
ELSE = 4.0
# What has a cause already counts for others by this much: a slow GPU makes a queue, and need not.
EXPLAINED = 0.5


@dataclass(frozen=True, slots=True)
class Weight:
    """What one piece of evidence weighs for a hypothesis; below 0 it speaks against it."""

    item: str
    decibans: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A hypothesis, and all that weighs: for and against, the heaviest first."""

    hypothesis: Hypothesis
    decibans: float
    weights: tuple[Weight, ...]

    @property
    def stands(self) -> bool:
        return self.decibans >= LEAST

    @property
    def supports(self) -> tuple[Weight, ...]:
        return tuple(weight for weight in self.weights if weight.decibans > 0)

    @property
    def contradicts(self) -> tuple[Weight, ...]:
        return tuple(weight for weight in self.weights if weight.decibans < 0)

    @property
    def name(self) -> str:
        return self.hypothesis.name


@dataclass(frozen=True, slots=True)
class Verdict:
    """``name``: of a hypothesis, or ``UNDETERMINED``; ``ranked``: those possible, likely first."""

    name: str
    confidence: float
    ranked: tuple[Standing, ...]
    seen: Mapping[str, Seen]

    @property
    def best(self) -> Standing | None:
        """What is named, or else what is most probable."""
        named = (each for each in self.ranked if each.name == self.name)
        return next(named, self.ranked[0] if self.ranked else None)

    @property
    def runner_up(self) -> Standing | None:
        return next((each for each in self.ranked if each is not self.best), None)

    @property
    def gate(self) -> Seen | None:
        """What opened the gate of what is most probable."""
        best = self.best
        gates = best.hypothesis.gate if best else ()
        return next((self.seen[gate] for gate in gates if self.seen[gate].is_present), None)

    @property
    def is_determined(self) -> bool:
        return self.name != UNDETERMINED


def is_open(case: Case) -> bool:
    """Return whether anything is wrong with the replica, or with what it stands on."""
    return any(ITEMS[name].look(case).is_certain for name in OPENING)


def judge(case: Case) -> Verdict:
    """Return the verdict on ``case``, whether or not anything is wrong with it."""
    return weigh({name: item.look(case) for name, item in ITEMS.items()})


def weigh(seen: Mapping[str, Seen]) -> Verdict:
    """Return what ``seen`` comes to; it has every item's name."""
    ranked = _ranked(seen)
    name = _named(ranked)
    return Verdict(name, _confidence(ranked, name), ranked, seen)


def holding(verdict: Verdict, name: str) -> Verdict:
    """Return ``verdict`` as it is when ``name`` is named, with what that is worth; if it can be."""
    if all(each.name != name for each in verdict.ranked):
        return verdict
    return replace(verdict, name=name, confidence=_confidence(verdict.ranked, name))


def favouring(ranked: tuple[Standing, ...], name: str, decibans: float) -> str:
    """Return what would be named if ``name`` had so many more."""
    favoured = (
        replace(each, decibans=each.decibans + decibans) if each.name == name else each
        for each in ranked
    )
    return _named(tuple(sorted(favoured, key=lambda each: -each.decibans)))


def _ranked(seen: Mapping[str, Seen]) -> tuple[Standing, ...]:
    """Return the hypotheses that more speaks for than against, the most probable first."""
    explained: frozenset[str] = frozenset()
    found = []
    for hypothesis in HYPOTHESES:
        if not any(seen[gate].is_present for gate in hypothesis.gate):
            continue
        standing = _standing(hypothesis, seen, explained)
        if standing.decibans > 0:
            found.append(standing)
        if standing.stands:
            explained |= hypothesis.explains
    parents = Counter(each.hypothesis.parent for each in found if each.stands)
    # What is said in particular need not be said in general.
    found = [each for each in found if parents[each.name] != 1]
    # Of equals the one of precedence: sorting keeps their order.
    return tuple(sorted(found, key=lambda each: -each.decibans))


def _standing(
    hypothesis: Hypothesis, seen: Mapping[str, Seen], explained: frozenset[str]
) -> Standing:
    weights = []
    for sign in hypothesis.signs:
        known, decibans = seen[sign.item], 0.0
        if known.is_present:
            decibans = sign.present * known.strength
            decibans *= EXPLAINED if sign.item in explained else 1.0
        elif known.is_absent:
            decibans = sign.absent
        if decibans:
            weights.append(Weight(sign.item, decibans))
    weights.sort(key=lambda weight: -abs(weight.decibans))
    return Standing(hypothesis, _sum(weights), tuple(weights))


def _sum(weights: Iterable[Weight]) -> float:
    """Return what they weigh together, each group no more than it may."""
    groups: dict[Group, float] = {}
    for weight in weights:
        group = ITEMS[weight.item].group
        groups[group] = groups.get(group, 0.0) + weight.decibans
    return sum(max(-CAPS[group], min(CAPS[group], sum_)) for group, sum_ in groups.items())


def _named(ranked: tuple[Standing, ...]) -> str:
    if not ranked or not ranked[0].stands:
        return UNDETERMINED
    best = ranked[0]
    rival = next((each for each in ranked[1:] if _is_rival(each, best)), None)
    if rival is None:
        return best.name
    # Two of one kind that nothing tells apart: what they have in common is certain.
    parent = best.hypothesis.parent
    both = parent and parent in (rival.hypothesis.parent, rival.name)
    return parent if both and parent in {each.name for each in ranked} else UNDETERMINED


def _is_rival(other: Standing, best: Standing) -> bool:
    """Return whether ``other`` explains the same evidence about as well."""
    return best.decibans - other.decibans < LEAD and _own(other, best) < OWN


def _own(other: Standing, best: Standing) -> float:
    """Return what speaks for ``other`` and not for ``best``."""
    shared = {weight.item for weight in best.supports}
    return _sum(weight for weight in other.weights if weight.item not in shared)


def _confidence(ranked: tuple[Standing, ...], name: str) -> float:
    """Return the probability that is claimed of what is named, or else of the most probable."""
    if not ranked:
        return calibration.LEAST
    most = calibration.MOST_UNDETERMINED if name == UNDETERMINED else calibration.MOST
    return max(calibration.LEAST, min(most, share(ranked, name, calibration.TEMPERATURE)))


def share(ranked: tuple[Standing, ...], name: str, temperature: float) -> float:
    """Return the share of ``name``, or the best, among its rivals and what is not on the list."""
    best = next((each for each in ranked if each.name == name), ranked[0])
    rivals = [each.decibans for each in ranked if each is not best and _own(each, best) < OWN]
    # Less than what there is to compare with: the same share, and no overflow.
    against = (
        exp((decibans - best.decibans) * log(10.0) / 10.0 / temperature)
        for decibans in (ELSE, *rivals)
    )
    return 1.0 / (1.0 + sum(against))
