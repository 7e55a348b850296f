"""Put a diagnosis into words: a headline, one sentence, what speaks for it and against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.coordinator.diagnosis.causes import CHANGE, Nature, cause_of
from gpuward.coordinator.diagnosis.values import UNDETERMINED, Diagnosis, Scope
from gpuward.coordinator.diagnosis.weights import count
from gpuward.coordinator.terms import Action

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.coordinator.diagnosis.candidates import Candidate
    from gpuward.coordinator.diagnosis.values import Answer, Case

# The runbook's questions, as what is ruled out when all nodes say no.
RULED_OUT = {
    1: "a GPU that is saturated, fragmented, held back or sick",
    2: "overload",
    3: "larger requests",
    4: "a slow upstream",
}
# The test that tells a cause from what may follow from it, by the nature of the first.
TELLING_APART = {
    Nature.CHANGE: "roll one replica back, or start one as before, and compare it with the others",
    Nature.OUTSIDE: "compare the requests a second with an hour ago: as many as then, the upstream",
    Nature.LOAD: "compare the length of prompts with an hour ago at the gateway",
    Nature.PLACE: "take the sick replica out of the rotation and see whether the others recover",
}
ASK_A_NODE = "run `gpuward agent why` on a node that serves it"
MOST_LINES = 8
HOUR_S = 3600.0


def named(case: Case, best: Candidate, others: Sequence[Candidate]) -> Diagnosis:
    """Return the diagnosis that ``best`` is the cause; ``others``: what is true besides."""
    headline = _headline(case, best)
    own = best.cohort
    supports = [weight.words for weight in best.weights if weight.decibans > 0]
    against = [weight.words for weight in best.weights if weight.decibans < 0]
    return Diagnosis(
        cause=best.cause,
        scope=best.scope,
        headline=headline,
        summary=_sentence(case, best, headline, others),
        confidence=0.0,
        at_s=case.at_s,
        domain=best.domain,
        about=best.about,
        action=best.action,
        advice=best.advice,
        supports=(*supports, *(own.supports if own else ()))[:MOST_LINES],
        contradicts=(*against, *(own.contradicts if own else ()))[:MOST_LINES],
        ruled_out=tuple(_ruled_out(case, best)),
        suspects=_suspects(case, with_starts=best.cause != CHANGE),
        besides=_names(others),
        grounds=_grounds(case, [best]),
        blames=best.keys,
    )


def undetermined(case: Case, possible: Sequence[Candidate]) -> Diagnosis:
    """Return that the cause is not known: what is possible, and what would tell."""
    names = [cause_of(each.cause).words for each in possible[:2]]
    wavering = [cohort for cohort in case.cohorts if cohort.cause == UNDETERMINED]
    if len(names) < 2:  # noqa: PLR2004 - "this or that" needs two
        told = (cause_of(name).words for cohort in wavering for name in cohort.rivals)
        names = list(dict.fromkeys((*names, *told)))[:2]
    which = " or ".join(names) if names else "no node names a cause"
    which = f"perhaps {which}" if len(names) == 1 else which
    return Diagnosis(
        cause=UNDETERMINED,
        scope=Scope.NONE,
        headline=f"undetermined: {which}",
        summary=f"Why is undetermined: {which}. {_where(case)}".strip(),
        confidence=0.0,
        at_s=case.at_s,
        action=Action.NONE,
        next_test=_next_test(case, possible),
        supports=tuple(w.words for each in possible[:2] for w in each.weights if w.decibans > 0),
        contradicts=tuple(w.words for each in possible[:2] for w in each.weights if w.decibans < 0),
        ruled_out=tuple(_ruled_out(case)),
        suspects=_suspects(case),
        besides=_names(possible[:2]),
        grounds=_grounds(case, possible[:2]),
    )


def _names(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    return tuple(sorted({each.label for each in candidates}))


def _grounds(case: Case, weighed: Sequence[Candidate]) -> tuple[str, ...]:
    """Return what the weights of ``weighed`` rest on, and what nodes rule out, without figures."""
    found = {
        f"{weight.group} {'for' if weight.decibans > 0 else 'against'}"
        for candidate in weighed
        for weight in candidate.weights
    }
    found |= {f"no to {answer.question}" for answer in case.answers if _is_no(answer)}
    return tuple(sorted(found))


def _headline(case: Case, best: Candidate) -> str:
    words = cause_of(best.cause).words
    if best.upstream:
        words = f"upstream {best.about} in trouble"
    elif best.about:
        return f"{words} at {best.about}"
    if case.heard <= 1 or not best.replicas:
        return words
    whole = best.replicas >= case.heard
    where = f"all {case.heard}" if whole else f"{best.replicas} of {case.heard}"
    return f"{words} at {where} replicas"


def _sentence(case: Case, best: Candidate, headline: str, others: Sequence[Candidate]) -> str:
    parts = [headline[:1].upper() + headline[1:]]
    for other in others[:2]:
        follows = best.nature is Nature.PLACE and other.cause in cause_of(best.cause).explains
        words = _headline(case, other)
        parts.append(f"{words} may follow from it" if follows else f"besides, {words}")
    return f"{'; '.join(parts)}."


def _where(case: Case) -> str:
    if not case.hurt:
        return ""
    if case.well and case.hurt == 1:
        return f"Users are hurt at {case.hurt_places[0]} alone, {count(case.well, 'other')} well."
    return f"Users are hurt at {case.hurt} of {count(case.heard, 'replica')}."


def _next_test(case: Case, possible: Sequence[Candidate]) -> str:
    if len(possible) > 1:
        natures = [each.nature for each in possible[:2]]
        return next(test for nature, test in TELLING_APART.items() if nature in natures)
    tests = (cohort.next_test for cohort in case.cohorts if cohort.next_test)
    return next(tests, ASK_A_NODE)


def _ruled_out(case: Case, best: Candidate | None = None) -> Iterator[str]:
    """Yield what all nodes that can tell say no to, if half can; and what the spread says."""
    for answer in case.answers:
        if _is_no(answer):
            yield f"{RULED_OUT[answer.question]}: {_by(answer)}"
    if case.dated == case.heard > 0 and not case.began_anew:
        yield "a roll-out: no replica had begun anew in the day before"
    one_place = best is not None and best.nature is Nature.PLACE and best.scope is Scope.ONE
    if case.hurt == case.heard > 1 and not one_place:
        yield f"one sick node: users are hurt at all {case.hurt} replicas alike"


def _suspects(case: Case, *, with_starts: bool = True) -> tuple[str, ...]:
    """Return what was changed in the day before: what replicas run, or that they began anew."""
    of = f"of {count(case.heard, 'replica')}"
    suspects = [
        f"{each.replicas} {of} changed from {each.words}, {_ago(case, each.at_s)}"
        for each in case.changes
    ]
    if with_starts and case.began_anew:
        ago = _ago(case, case.last_began_s)
        suspects.append(f"{case.began_anew} {of} had begun anew, the last {ago}")
    return tuple(suspects)


def _ago(case: Case, at_s: float) -> str:
    before_s = case.onset_s - at_s
    ago = f"{before_s / 3600:.0f} h" if before_s >= HOUR_S else f"{before_s / 60:.0f} min"
    return f"{ago} before users were hurt"


def _is_no(answer: Answer) -> bool:
    return answer.no > 0 and not answer.yes and answer.no >= answer.unknown


def _by(answer: Answer) -> str:
    says = f"{count(answer.no, 'node')} {'says' if answer.no == 1 else 'say'} no"
    return f"{says}, {answer.unknown} cannot tell" if answer.unknown else says
