"""What each piece of evidence weighs for a cause, in decibans: ten are ten times as probable.

The numbers are a judgement: no labelled incidents exist to learn them from.  Three anchors: one
node that is just sure of a cause is enough where nothing speaks against it; the same from many is
worth less than twice as much, because they read the same thermometers; and users who are hurt
elsewhere, without a word of why, take as much away.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import log10
from typing import TYPE_CHECKING

from gpuward.coordinator.cause import SURE
from gpuward.coordinator.diagnosis.causes import Nature, cause_of
from gpuward.coordinator.diagnosis.values import UNDETERMINED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuward.coordinator.diagnosis.values import Case, Cohort, Starts, Upstream


class Group(StrEnum):
    """What a weight rests on; see ``CAPS``."""

    VERDICT = "verdict"
    SPREAD = "spread"
    UPSTREAM = "upstream"
    CHANGE = "change"


# Decibans that a group can weigh: nodes that tell the same read the same thermometers.
CAPS = {Group.VERDICT: 30.0, Group.SPREAD: 20.0, Group.UPSTREAM: 25.0, Group.CHANGE: 25.0}

# Of a verdict, beside what its certainty adds; agents are never surer than that.
SURE_WEIGHT, MOST_CERTAIN = 10.0, 0.95
NEXT_NODE = 3.0
ALONE = 12.0
WELL_THERE = -12.0
NOBODY_SAYS_WHY = -15.0
SAME_EVERYWHERE = 8.0
SEEN_SLOW, SEEN_DOWN, SEEN_BY_NEXT = 12.0, 15.0, 3.0
OTHERS_BLAME_IT = 8.0
ALL_BEGAN_ANEW, OLDER_ARE_HURT = 15.0, -20.0
OLDER_ARE_WELL, NEW_ARE_WELL = 10.0, -8.0
JUST_BEFORE, BEFORE = 10.0, 5.0
JUST_BEFORE_S = 600.0


@dataclass(frozen=True, slots=True)
class Weight:
    """One piece of evidence; below 0 it speaks against."""

    group: Group
    decibans: float
    words: str


def is_sure(cohort: Cohort) -> bool:
    """Return whether a cohort names a cause of what users feel."""
    if cohort.cause == UNDETERMINED or cause_of(cohort.cause).nature is Nature.SIGHT:
        return False
    return cohort.confidence >= SURE


def together(weights: Iterable[Weight]) -> float:
    """Return what ``weights`` come to, each group no more than it may."""
    sums: dict[Group, float] = {}
    for weight in weights:
        sums[weight.group] = sums.get(weight.group, 0.0) + weight.decibans
    return sum(max(-CAPS[group], min(CAPS[group], sum_)) for group, sum_ in sums.items())


def of_verdicts(cohort: Cohort) -> Iterator[Weight]:
    """Yield what the word of those who tell a cause weighs."""
    share = min(cohort.confidence, MOST_CERTAIN)
    decibans = SURE_WEIGHT + 10 * log10(share / (1 - share))
    where = f" at {cohort.places[0]}" if cohort.places else ""
    words = f"the verdict{where}, {cohort.confidence:.0%} certain".replace("%", " %")
    yield Weight(Group.VERDICT, decibans, words)
    if cohort.nodes > 1:
        more = (cohort.nodes - 1) * NEXT_NODE
        yield Weight(Group.VERDICT, more, f"{cohort.nodes} nodes tell it, each by itself")


def of_spread(case: Case, cohort: Cohort) -> Iterator[Weight]:
    """Yield what it says where users are hurt, and where they are not."""
    if not case.hurt:
        return
    said = sum(c.hurt for c in case.cohorts if is_sure(c))
    unsaid = max(0, case.hurt - said)
    if not cohort.hurt and cohort.well:
        yield Weight(Group.SPREAD, WELL_THERE, "users of the replicas where it is are well")
    if cohort.hurt == case.hurt and case.well > cohort.well:
        others = case.well - cohort.well
        words = (
            f"users are hurt there alone: {count(others, 'other replica')} {is_are(others)} well"
        )
        yield Weight(Group.SPREAD, ALONE, words)
    if unsaid:
        words = f"users are hurt at {count(unsaid, 'replica')} more, and no node says why"
        yield Weight(Group.SPREAD, NOBODY_SAYS_WHY * unsaid / case.hurt, words)


def of_measurements(upstream: Upstream) -> Iterator[Weight]:
    """Yield what was measured at an upstream, and who else waits for it."""
    decibans = SEEN_DOWN if upstream.is_down else SEEN_SLOW
    state = "does not answer, or fails" if upstream.is_down else "is slower than usual"
    by = count(upstream.nodes, "node")
    more = (upstream.nodes - 1) * SEEN_BY_NEXT
    yield Weight(Group.UPSTREAM, decibans + more, f"it {state}, as {by} of the service measured")
    if upstream.services:
        words = f"{', '.join(upstream.services)} {is_are(len(upstream.services))} slow for it too"
        yield Weight(Group.UPSTREAM, OTHERS_BLAME_IT, words)


def of_starts(case: Case, starts: Starts) -> Iterator[Weight]:
    """Yield how well what began anew matches whose users are hurt; somebody's must be."""
    share = starts.hurt / case.hurt
    words = f"{starts.hurt} of {case.hurt} replicas whose users are hurt had just begun anew"
    yield Weight(Group.CHANGE, ALL_BEGAN_ANEW * share, words)
    if share < 1:
        older = count(case.hurt - starts.hurt, "older replica")
        words = f"users of {older} are hurt as well"
        yield Weight(Group.CHANGE, OLDER_ARE_HURT * (1 - share), words)
    older_well = case.well - starts.well
    if older_well > 0:
        words = f"users of {count(older_well, 'older replica')} are well"
        yield Weight(Group.CHANGE, OLDER_ARE_WELL, words)
    if starts.well:
        words = f"users of {count(starts.well, 'replica')} that began anew are well"
        yield Weight(Group.CHANGE, NEW_ARE_WELL * starts.well / starts.replicas, words)
    before_s = case.onset_s - starts.last_s
    decibans = JUST_BEFORE if before_s <= JUST_BEFORE_S else BEFORE
    words = f"the last of them began {before_s / 60:.0f} min before users were hurt"
    yield Weight(Group.CHANGE, decibans, words)


def count(number: int, noun: str) -> str:
    """Return ``1 node`` or ``2 nodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_are(number: int) -> str:
    """Return the verb for so many."""
    return "is" if number == 1 else "are"
