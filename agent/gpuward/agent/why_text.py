"""Draw a verdict for a terminal: the runbook's answers, the evidence for and against.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.diagnosis.questions import QUESTIONS, Word
from gpuward.agent.diagnosis.verdict import UNDETERMINED
from gpuward.agent.history_chart import value_text
from gpuward.agent.node_view import ACTIONS
from gpuward.agent.text_table import (
    NOTHING,
    Cell,
    Column,
    Tone,
    clipped,
    duration,
    painted,
    table,
    wrapped,
)
from gpuward.memory_map.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.v1 import finding_pb2

QUESTION = "question_"
INDENT = "  "
SIDES = {"for": Tone.BAD, "against": Tone.GOOD, "seen": Tone.PLAIN}
# Of what was seen; its figures stand beside it.
WORDS_WIDTH = 48
_WORDS = {Word.YES: Tone.BAD, Word.NO: Tone.GOOD, Word.UNKNOWN: Tone.WARNING}
_WORD_WIDTH = len("unknown")


def verdict_lines(
    finding: finding_pb2.Finding, at_s: float, *, width: int, colours: bool
) -> Iterator[str]:
    """Yield a verdict in lines of ``width`` at most; ``at_s``: now, seconds since 1970."""
    facts = {fact.name: fact.text for fact in finding.evidence}
    yield from _painted(finding.summary, Tone.HEADING, width=width, colours=colours)
    lasted = duration(max(0.0, at_s - finding.since.ToNanoseconds() / 1e9))
    rows = (
        ("verdict", said_with(facts.get("verdict", NOTHING), finding.confidence)),
        ("for", lasted),
        ("runner-up", facts.get("runner_up", "")),
        ("upstream", facts.get("upstream", "")),
        ("do", facts.get("advice", "")),
        ("next test", facts.get("next_test", "")),
        ("action", ACTIONS.get(finding.suggested_action, "")),
    )
    for name, words in rows:
        if words:
            yield from wrapped(f"{name}: {words}", width=width, indent=INDENT)
    yield ""
    yield painted("Runbook", Tone.HEADING, colours=colours)
    yield from _answers(facts, width=width, colours=colours)
    yield from _evidence(finding.evidence, width=width, colours=colours)


def said_with(verdict: str, confidence: float) -> str:
    """Return a verdict with how certain it is; nobody is certain of not knowing."""
    return verdict if verdict == UNDETERMINED else f"{verdict}, {confidence:.0%} certain"


def _answers(facts: dict[str, str], *, width: int, colours: bool) -> Iterator[str]:
    for number, question in QUESTIONS.items():
        word, _, reason = facts.get(f"{QUESTION}{number}", Word.UNKNOWN).partition(": ")
        tone = _WORDS.get(Word(word), Tone.PLAIN)
        answer = painted(word.ljust(_WORD_WIDTH), tone, colours=colours)
        yield f"{INDENT}{number} {answer}  {clipped(question, width - _WORD_WIDTH - 6)}"
        yield from wrapped(reason, width=width, indent=" " * (_WORD_WIDTH + 6))


def _evidence(facts: Sequence[finding_pb2.Evidence], *, width: int, colours: bool) -> Iterator[str]:
    rows = [fact for fact in facts if fact.text.partition(":")[0] in SIDES]
    if not rows:
        return
    yield ""
    yield painted("Evidence", Tone.HEADING, colours=colours)
    parts = [fact.text.partition(": ") for fact in rows]
    columns = (
        Column("", tuple(Cell(side, SIDES[side]) for side, _, _ in parts), 0, is_number=False),
        Column("what", tuple(Cell(_words(text)) for *_, text in parts), 1, is_number=False),
        Column("value", tuple(Cell(_amount(fact, fact.value)) for fact in rows), 2),
        Column("limit", tuple(Cell(_limit(fact)) for fact in rows), 3),
        Column("by", tuple(Cell(plain(fact.source)) for fact in rows), 4, is_number=False),
    )
    for line in table(columns, width=width - len(INDENT), colours=colours):
        yield f"{INDENT}{line}"


def _words(text: str) -> str:
    """Return the words without what stands in brackets: a log's line is in the agent's answer."""
    return clipped(text.partition(" (")[0], WORDS_WIDTH)


def _amount(fact: finding_pb2.Evidence, value: float) -> str:
    if not fact.unit:
        return NOTHING
    return f"{value_text('', value)}/s" if fact.unit == "1/s" else value_text(fact.unit, value)


def _limit(fact: finding_pb2.Evidence) -> str:
    return _amount(fact, fact.threshold) if fact.HasField("threshold") else NOTHING


def _painted(text: str, tone: Tone, *, width: int, colours: bool) -> Iterator[str]:
    for line in wrapped(text, width=width, indent=""):
        yield painted(line, tone, colours=colours)
