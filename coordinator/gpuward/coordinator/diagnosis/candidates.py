"""The causes that a case may have: one rule for each nature of a cause, with its gate.

Without a node that is sure, an upstream that was measured or replicas that began anew, nothing is a
candidate: latency alone names no cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.coordinator.diagnosis.causes import (
    CHANGE,
    UNEVEN_LOAD,
    UPSTREAM,
    Nature,
    cause_of,
)
from gpuward.coordinator.diagnosis.values import Cohort, Scope
from gpuward.coordinator.diagnosis.weights import (
    SAME_EVERYWHERE,
    Group,
    Weight,
    is_sure,
    of_measurements,
    of_spread,
    of_starts,
    of_verdicts,
    together,
)
from gpuward.coordinator.terms import Action, CauseDomain

if TYPE_CHECKING:
    from gpuward.coordinator.diagnosis.values import Case

# Where all get too much, one says so first; by then the others have said it as well.
UNEVEN_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible cause.  ``replicas``: at how many it is."""

    cause: str
    scope: Scope
    weights: tuple[Weight, ...]
    since_s: float
    domain: CauseDomain
    action: Action
    replicas: int = 0
    about: str = ""
    advice: str = ""
    upstream: str = ""
    cohort: Cohort | None = None
    keys: tuple[str, ...] = ()

    @property
    def nature(self) -> Nature:
        return cause_of(self.cause).nature

    @property
    def label(self) -> str:
        """The cause, and the upstream where it is one."""
        return f"{self.cause} {self.upstream}".strip()

    @property
    def signs(self) -> tuple[str, ...]:
        return self.cohort.signs if self.cohort else ()

    @property
    def decibans(self) -> float:
        return together(self.weights)


def candidates(case: Case) -> tuple[Candidate, ...]:
    """Return the causes that have what they cannot go without, in a fixed order."""
    found = [of_change(case)]
    found += [of_upstream(case, name) for name in _upstream_names(case)]
    for cohort in case.cohorts:
        if is_sure(cohort):
            match cause_of(cohort.cause).nature:
                case Nature.PLACE:
                    found.append(of_place(case, cohort))
                case Nature.LOAD:
                    found.append(of_load(case, cohort))
    return tuple(candidate for candidate in found if candidate is not None)


def of_place(case: Case, cohort: Cohort) -> Candidate:
    """Judge a trouble of a node, a GPU or a process: one place, or several of them."""
    scope = _scope(cohort.replicas, case)
    place = cohort.places[0] if scope is Scope.ONE and cohort.places else ""
    return _of_cohort(cohort, scope, (*of_verdicts(cohort), *of_spread(case, cohort)), about=place)


def of_load(case: Case, cohort: Cohort) -> Candidate:
    """Judge a trouble of the traffic: the whole service's, or that of a few who get too much."""
    others = case.heard - cohort.replicas
    weights = (*of_verdicts(cohort), *of_spread(case, cohort))
    if cohort.replicas >= others:
        words = f"{cohort.replicas} of {case.heard} replicas tell the same"
        same = (Weight(Group.SPREAD, SAME_EVERYWHERE, words),) if case.heard > 1 else ()
        return _of_cohort(cohort, _scope(cohort.replicas, case), (*weights, *same))
    is_young = case.at_s - cohort.since_s < UNEVEN_AFTER_S
    if is_young or case.well - cohort.well <= others / 2:
        return _of_cohort(cohort, _scope(cohort.replicas, case), weights)
    return Candidate(
        cause=UNEVEN_LOAD,
        scope=_scope(cohort.replicas, case),
        weights=weights,
        since_s=cohort.since_s,
        domain=CauseDomain.NETWORK,
        action=Action.CHECK_APPLICATION,
        replicas=cohort.replicas,
        about=cohort.places[0] if cohort.places and cohort.replicas == 1 else "",
        advice="look how the gateway spreads requests; more replicas would not help",
        cohort=cohort,
        keys=cohort.keys,
    )


def of_upstream(case: Case, name: str) -> Candidate:
    """Judge an upstream, by those who wait for it and by the requests of our own."""
    blaming = (c for c in case.cohorts if is_sure(c) and (c.cause, c.upstream) == (UPSTREAM, name))
    cohort = next(blaming, None)
    seen = next((each for each in case.upstreams if each.name == name), None)
    known = [it for it in (cohort, seen) if it is not None]
    weights = (
        *(of_verdicts(cohort) if cohort else ()),
        *(of_spread(case, cohort) if cohort else ()),
        *(of_measurements(seen) if seen else ()),
    )
    return Candidate(
        cause=UPSTREAM,
        scope=_scope(cohort.replicas if cohort else seen.nodes if seen else 0, case),
        weights=weights,
        since_s=min(it.since_s for it in known),
        domain=cohort.domain if cohort else CauseDomain.NETWORK,
        action=Action.CHECK_APPLICATION,
        replicas=cohort.replicas if cohort else 0,
        about=name,
        advice=cohort.advice if cohort else "look at the upstream; the GPUs are well",
        upstream=name,
        cohort=cohort,
        keys=tuple(dict.fromkeys(key for it in reversed(known) for key in it.keys)),
    )


def of_change(case: Case) -> Candidate | None:
    """Judge a roll-out: replicas that began anew before users were hurt.

    One replica that began anew and is alone is a restart, which mends as often as it hurts.
    """
    starts = case.starts
    if starts is None or not starts.hurt:
        return None
    if starts.replicas == 1 and case.well == starts.well:
        return None
    return Candidate(
        cause=CHANGE,
        scope=_scope(starts.replicas, case),
        weights=tuple(of_starts(case, starts)),
        since_s=starts.first_s,
        domain=CauseDomain.CAPACITY,
        action=Action.CHECK_APPLICATION,
        replicas=starts.replicas,
        advice="ask what was rolled out; roll one replica back and compare it with the others",
    )


def _of_cohort(
    cohort: Cohort, scope: Scope, weights: tuple[Weight, ...], about: str = ""
) -> Candidate:
    return Candidate(
        cause=cohort.cause,
        scope=scope,
        weights=weights,
        since_s=cohort.since_s,
        domain=cohort.domain,
        action=cohort.action,
        replicas=cohort.replicas,
        about=about,
        advice=cohort.advice,
        cohort=cohort,
        keys=cohort.keys,
    )


def _scope(replicas: int, case: Case) -> Scope:
    if replicas >= case.heard and case.heard > 1:
        return Scope.ALL
    return Scope.ONE if replicas <= 1 else Scope.SEVERAL


def _upstream_names(case: Case) -> dict[str, None]:
    told = (c.upstream for c in case.cohorts if is_sure(c) and c.cause == UPSTREAM)
    return dict.fromkeys((*told, *(each.name for each in case.upstreams)))
