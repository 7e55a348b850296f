"""Say why a replica is slow: the most probable cause, with the evidence for and against it.

The runbook "Inference latency spike", carried out: see ``gpuward.agent.diagnosis``.  It is asked
when another detector finds a replica slow, failing or queueing, or a GPU that serves in trouble;
stored, because what it explains is told already.  Where two causes explain the same evidence it
says so, names both, and the test that would separate them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.diagnosis.case import cases
from gpuward.agent.diagnosis.evidence import ITEMS
from gpuward.agent.diagnosis.next_test import next_test
from gpuward.agent.diagnosis.numbers import NAMES, NUMBERS
from gpuward.agent.diagnosis.questions import answers
from gpuward.agent.diagnosis.verdict import UNDETERMINED, holding, is_open, judge
from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Result,
    Subject,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.diagnosis.verdict import Verdict
    from gpuward.agent.window import Window

KIND = Kind(
    name="service.latency.cause",
    default_class=FindingClass.STORE,
    domain=CauseDomain.CAPACITY,
    action=Action.NONE,
    meaning="Why a replica is slow, as far as its node can tell; the verdict names the cause.",
    # A GPU that is being reset is away for some seconds.
    raise_after_s=15.0,
    clear_after_s=120.0,
)
# What was named of the replica until now, by its number.
NAMED = "replica_cause"
FOR, AGAINST, SEEN = "for", "against", "seen"
# Contradictions are always shown, the heaviest of them.
MOST_FOR = 8
MOST_AGAINST = 3
SOURCE = "diagnosis"
STATES = {
    "fails": ("outage", "requests_fail", "tokens_stopped"),
    "is slow": ("inter_token_slow", "objective_missed", "queueing"),
    "answers otherwise than before": ("answers_differ",),
}
OUT_OF_SIGHT = frozenset({"telemetry_gap", "partition", "clock_skew"})
NOBODY = "none"
# A restart mends as often as it hurts: whoever looks for the cause must not stop there.
PASSING_CONFIDENCE = 0.5


def detect(window: Window) -> Iterator[Finding]:
    """Yield a verdict on each replica in trouble; none while work on the node is planned."""
    if window.driver.maintenance is not None:
        return
    for case in cases(window):
        if is_open(case):
            yield _finding(case, verdict_of(case))


def verdict_of(case: Case) -> Verdict:
    """Return the verdict on ``case``; it names what was named before, where that is held."""
    verdict, before = judge(case), case.latest(NAMED)
    return verdict if before is None else holding(verdict, NAMES.get(int(before.value), ""))


def name_of(finding: Finding) -> str:
    """Return what ``finding``, one of this kind, names."""
    name = next((fact.text for fact in finding.evidence if fact.name == "verdict"), "")
    return name if name in NUMBERS else UNDETERMINED


def _finding(case: Case, verdict: Verdict) -> Finding:
    gate = verdict.gate
    best = verdict.best if verdict.is_determined else None
    action = gate.action if best and gate and gate.action else None
    passes = best is not None and best.hypothesis.passes
    # One finding for each replica, whichever GPU it points to; of one without a name it is the key.
    gpu = gate.gpu if best and gate and case.endpoint else ""
    return Finding(
        kind=KIND.name,
        subject=Subject(gpu=gpu, service=case.service, endpoint=case.endpoint),
        summary=_summary(case, verdict),
        result=Result.WARN,
        confidence=min(verdict.confidence, PASSING_CONFIDENCE) if passes else verdict.confidence,
        evidence=tuple(_evidence(verdict)),
        action=action or (best.hypothesis.action if best else Action.NONE),
        domain=best.hypothesis.domain if best else None,
        causes=(gate.key,) if best and gate and gate.key else (),
    )


def _summary(case: Case, verdict: Verdict) -> str:
    who = f"{case.service} at {case.endpoint}" if case.endpoint else case.service
    best, second = verdict.best, verdict.runner_up
    state = _state(verdict)
    if not verdict.is_determined or best is None:
        names = " or ".join(each.name for each in verdict.ranked[:2]) or "no known cause shows"
        return f"{who} {state}, and why is undetermined: {names}. Next: {next_test(verdict)}."
    gate = verdict.gate
    where = f" (GPU {case.index_of(gate.gpu)})" if gate and gate.gpu else ""
    also = f"; besides, {second.hypothesis.says}" if second and second.stands else ""
    return f"{who} {state}: {best.hypothesis.says}{where}{also}."


def _state(verdict: Verdict) -> str:
    """Return what is the matter with the replica, whatever the cause."""
    if verdict.name in OUT_OF_SIGHT:
        return "is out of sight"
    for words, items in STATES.items():
        if any(verdict.seen[item].is_present for item in items):
            return words
    return "is at risk"


def _evidence(verdict: Verdict) -> Iterator[Evidence]:
    yield from _words(verdict)
    yield from _rows(verdict)
    for answer in answers(verdict):
        why = f": {answer.why}" if answer.why else ""
        yield Evidence(f"question_{answer.question}", text=f"{answer.word}{why}", source="runbook")


def _words(verdict: Verdict) -> Iterator[Evidence]:
    """Yield the verdict, what is likely beside it, and what to do about it."""
    best = verdict.best
    likely = [each for each in verdict.ranked if not (verdict.is_determined and each is best)]
    names = ", ".join(each.name for each in likely[: 1 if verdict.is_determined else 2])
    yield Evidence("verdict", text=verdict.name, source=SOURCE)
    yield Evidence("runner_up", text=names or NOBODY, source=SOURCE)
    if verdict.gate is not None and verdict.gate.upstream:
        yield Evidence("upstream", text=verdict.gate.upstream, source=verdict.gate.source)
    if best is not None and verdict.is_determined:
        yield Evidence("advice", text=best.hypothesis.advice, source=SOURCE)
    else:
        yield Evidence("next_test", text=next_test(verdict), source=SOURCE)


def _rows(verdict: Verdict) -> Iterator[Evidence]:
    """Yield what speaks for the most probable cause and against it; all there is while unsure."""
    best = verdict.best
    if best is not None:
        for weight in best.supports[:MOST_FOR]:
            yield row(verdict, weight.item, FOR)
        for weight in best.contradicts[:MOST_AGAINST]:
            yield row(verdict, weight.item, AGAINST)
    if not verdict.is_determined:
        weighed = {weight.item for weight in best.weights} if best else set()
        for name, seen in verdict.seen.items():
            if seen.is_present and name not in weighed:
                yield row(verdict, name, SEEN)


def row(verdict: Verdict, item: str, side: str) -> Evidence:
    """Return what was seen of ``item``, said as evidence for a cause or against it."""
    seen = verdict.seen[item]
    no = "" if seen.is_present else "not so: "
    words = seen.text or seen.upstream
    about = f" ({words})" if words else ""
    return Evidence(
        item,
        seen.value,
        seen.unit,
        seen.limit,
        text=f"{side}: {no}{ITEMS[item].words}{about}",
        source=seen.source,
        at_s=seen.at_s,
    )
