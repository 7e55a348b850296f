"""Weigh the candidates of a case: one cause, or none and the test that would tell.

A cause that others may follow from takes half of their weight: what is left of a replica's load
goes to the others, and a queue before a slow upstream looks like too many requests.  Where what
follows still weighs as much as what it may follow from, the answer is "undetermined".

A cause that is named stays until another leads it by ten decibans, or until hardly anything speaks
for it any more: people act on it meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log
from typing import TYPE_CHECKING

from gpuward.coordinator.diagnosis.candidates import candidates
from gpuward.coordinator.diagnosis.causes import UNEVEN_LOAD, Nature, cause_of
from gpuward.coordinator.diagnosis.values import Diagnosis, Scope
from gpuward.coordinator.diagnosis.words import named, undetermined

if TYPE_CHECKING:
    from gpuward.coordinator.diagnosis.candidates import Candidate
    from gpuward.coordinator.diagnosis.values import Case

# Decibans.  Who has fewer is not named, and explains nothing.
LEAST = 14.0
LEAD = 10.0
# What was named keeps its name down to here.
KEPT = 7.0
EXPLAINED = 0.5
# What speaks for something that nobody thought of, always.
ELSE = 4.0
# Evidence is less independent than it is weighed.
TEMPERATURE = 1.5
MOST_CONFIDENT = 0.95
LEAST_CONFIDENT = 0.05
# Six replicas that do the work of seven barely notice; five that do the work of six do.
LOST_SHARE = 1 / 6
# Two nodes need not see the same in the same moment.
SAME_TIME_S = 60.0
# What speaks for a cause moves more often than the cause: the timeline has it this often at most.
GROUNDS_EVERY_S = 120.0
_SIZE = {scope: place for place, scope in enumerate(Scope)}


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate, and what it weighs once others have explained a part of it."""

    candidate: Candidate
    decibans: float
    # What it may follow from.
    parent: Candidate | None = None


def diagnose(case: Case, before: Diagnosis | None = None) -> Diagnosis | None:
    """Return the diagnosis of ``case``; ``before``: the last one; ``None`` while nothing is known.

    The same case after the same diagnosis gives the same one again.
    """
    ranked = rank(case)
    kept = _kept(ranked, before)
    best = _best(ranked) if kept is None else kept
    if before is not None and before.is_determined and _is_tail(case, best, before):
        return before
    if best is not None:
        others = [it.candidate for it in ranked if _is_besides(it, best, before)]
        fresh = replace(named(case, best.candidate, others), confidence=_confidence(ranked, best))
        return _no_smaller(fresh, before)
    if case.is_silent:
        return before
    return undetermined(case, [it.candidate for it in ranked if it.decibans > 0])


def rank(case: Case) -> tuple[Standing, ...]:
    """Return the candidates, the strongest first."""
    found = sorted(candidates(case), key=lambda candidate: -candidate.decibans)
    stand = [candidate for candidate in found if candidate.decibans >= LEAST]
    standings = [_standing(case, candidate, stand) for candidate in found]
    return tuple(sorted(standings, key=lambda standing: -standing.decibans))


def is_news(before: Diagnosis | None, after: Diagnosis) -> bool:
    """Return whether ``after`` says something else than ``before``, not only in other figures."""
    if before is None:
        return True
    if (before.cause, before.about, before.scope) != (after.cause, after.about, after.scope):
        return True
    if after.is_determined and before.besides != after.besides:
        return True
    # What it is undecided between can take turns.
    moved = (before.besides, before.grounds) != (after.besides, after.grounds)
    return moved and after.at_s - before.at_s >= GROUNDS_EVERY_S


def reason(before: Diagnosis | None, after: Diagnosis) -> str:
    """Return what speaks for ``after`` that did not before; empty for a first one."""
    if before is None:
        return ""
    fresh = [line for line in after.supports if line not in before.supports]
    return next(iter(fresh or after.supports), "what spoke for it is over")


def _standing(case: Case, candidate: Candidate, stand: list[Candidate]) -> Standing:
    parent = next((each for each in stand if _explains(case, each, candidate)), None)
    share = 1.0 if parent is None else EXPLAINED
    return Standing(candidate, candidate.decibans * share, parent)


def _explains(case: Case, one: Candidate, other: Candidate) -> bool:
    """Return whether ``other`` may follow from ``one``."""
    if one.since_s > other.since_s + SAME_TIME_S:
        return False
    moved = "arrivals_up" in other.signs
    if one.nature is Nature.CHANGE:
        return cause_of(other.cause).by_change and not moved
    if other.cause not in cause_of(one.cause).explains:
        return False
    if one.nature is Nature.PLACE:
        # Requests that moved away from there arrive elsewhere.
        return one.replicas >= LOST_SHARE * max(case.heard, one.replicas)
    return not (one.nature is Nature.OUTSIDE and moved)


def _best(ranked: tuple[Standing, ...]) -> Standing | None:
    """Return what is to be named; ``None`` where nothing is."""
    if not ranked or ranked[0].decibans < LEAST:
        return None
    best = ranked[0]
    of_it = (it for it in ranked if best.parent is it.candidate)
    rival = next((it for it in of_it if best.decibans - it.decibans < LEAD), None)
    return best if rival is None else None


def _kept(ranked: tuple[Standing, ...], before: Diagnosis | None) -> Standing | None:
    """Return the cause that was named before, unless another has to be named now."""
    if before is None or not before.is_determined:
        return None
    held = next((it for it in ranked if _is_same(it.candidate, before)), None)
    if held is None or held.decibans < KEPT:
        return None
    best = _best(ranked)
    if best is None or best is held:
        return held
    overtaken = best.decibans - held.decibans >= LEAD or held.parent is best.candidate
    return None if overtaken else held


def _is_same(candidate: Candidate, diagnosis: Diagnosis) -> bool:
    about = candidate.upstream if candidate.nature is Nature.OUTSIDE else ""
    is_there = candidate.nature is not Nature.OUTSIDE or about == diagnosis.about
    return candidate.cause == diagnosis.cause and is_there


def _no_smaller(fresh: Diagnosis, before: Diagnosis | None) -> Diagnosis:
    """Return ``fresh`` at no fewer replicas than it was: they clear one after the other."""
    if before is None or before.cause != fresh.cause or _SIZE[before.scope] <= _SIZE[fresh.scope]:
        return fresh
    return replace(fresh, scope=before.scope, about=before.about)


def _is_besides(other: Standing, best: Standing, before: Diagnosis | None) -> bool:
    """Return whether ``other`` is true as well, or follows; once it is, down to nothing."""
    was = before is not None and other.candidate.label in before.besides
    return other is not best and other.decibans >= (0.0 if was else KEPT)


def _is_tail(case: Case, best: Standing | None, before: Diagnosis) -> bool:
    """Return whether this is the end of what ``before`` named: it had its cause all the same."""
    if case.is_over or (best is None and not case.cohorts):
        return True
    # A few replicas that still have too much to do were not the cause when all had.
    own = best.candidate.cohort if best is not None else None
    is_rest = best is not None and best.candidate.cause == UNEVEN_LOAD
    return is_rest and own is not None and own.cause == before.cause


def _confidence(ranked: tuple[Standing, ...], best: Standing) -> float:
    """Return the probability of ``best`` against its rivals and what nobody thought of."""
    rivals = [it.decibans for it in ranked if _is_rival(it, best)]
    against = sum(_odds(decibans) for decibans in (ELSE, *rivals))
    share = _odds(best.decibans) / (_odds(best.decibans) + against)
    cohort = best.candidate.cohort
    if cohort is not None and cohort.nodes == 1:
        # One node is no surer for being asked by the centre.
        share = min(share, cohort.confidence)
    return max(LEAST_CONFIDENT, min(MOST_CONFIDENT, share))


def _is_rival(other: Standing, best: Standing) -> bool:
    """Return whether only one of the two can be the cause: one would make the other's signs."""
    if best.parent is other.candidate:
        return True
    # That load moves away from a sick place is a part of it, and no other explanation.
    follows = other.parent is best.candidate
    return follows and best.candidate.nature is not Nature.PLACE


def _odds(decibans: float) -> float:
    return exp(decibans * log(10.0) / 10.0 / TEMPERATURE)
