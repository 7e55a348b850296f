"""The runbook "Inference latency spike": its five questions in order, answered by the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gpuward.agent.diagnosis.evidence import ITEMS
from gpuward.agent.model import Action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.agent.diagnosis.seen import Seen
    from gpuward.agent.diagnosis.verdict import Verdict

FRAGMENTATION = "fragmentation"
QUESTIONS = {
    1: "Is the GPU saturated, fragmented, held back or sick?",
    2: "Is it overloaded?",
    3: "Are requests suddenly larger?",
    4: "Is an upstream slow?",
    5: "Would a rolling restart of its pods help?",
}
# What must be known for a "no"; the rest is more than the runbook asks.
MUST_BE_KNOWN = {
    1: ("gpu_saturated", "kv_cache_full", "fragmented", "heat_slowdown"),
    2: ("queueing",),
    3: ("prompts_longer",),
    4: ("upstream_slow",),
}


class Word(StrEnum):
    """The answer; what nobody looked at is unknown and never no."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """``why``: what was found, or who did not look."""

    question: int
    word: Word
    why: str = ""


def answers(verdict: Verdict) -> tuple[Answer, ...]:
    """Return the answers in the runbook's order."""
    return (*(_answer(number, verdict.seen) for number in MUST_BE_KNOWN), _restart(verdict))


def _answer(number: int, seen: Mapping[str, Seen]) -> Answer:
    rows = [item for item in ITEMS.values() if item.question == number]
    there = [item.words for item in rows if seen[item.name].is_present]
    if there:
        return Answer(number, Word.YES, "; ".join(there))
    unknown = [ITEMS[name].words for name in MUST_BE_KNOWN[number] if seen[name].is_unknown]
    if unknown:
        return Answer(number, Word.UNKNOWN, f"nobody can say whether {'; '.join(unknown)}")
    return Answer(number, Word.NO)


def _restart(verdict: Verdict) -> Answer:
    seen = verdict.seen["fragmented"]
    if verdict.name == FRAGMENTATION and seen.action is Action.RESTART_APPLICATION:
        return Answer(5, Word.YES, seen.text)
    if seen.is_unknown:
        return Answer(5, Word.UNKNOWN, "nobody sees the allocator")
    return Answer(5, Word.NO)
