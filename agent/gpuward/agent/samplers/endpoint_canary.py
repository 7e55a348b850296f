"""Tell whether a replica still gives the tokens that it gave before: the golden-token canary.

A kernel that computes wrong answers with status 200, and no counter sees it; the text does.  The
golden answer is the one of the first five that agrees best with the others, from whichever replicas
of the service run the same model in the same build, so that one that is sick from its start is
measured by its siblings.  Agreement is the share of the golden answer that comes before the first
difference.  Batching alone makes greedy answers differ now and then, so what is usual is learnt: an
answer counts as low when it is a quarter below all but the lowest 2 % of the last 200, and only
lows in a row are evidence, the fewer needed the more is known of what is usual.

Of an answer nothing is kept but numbers: a hash of 32 bits of each word.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent.learned_file import LearnedFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LEARNT_FROM = 5
KEPT = 200
# One in so many may be lower, and still usual.
RARE = 50
MARGIN = 0.25
# A finding takes lows that would come together by chance once in a million canaries.
CHANCE = 1e-6
# Models that come and go; the oldest is forgotten first.
MOST_MODELS = 64
WRITE_EVERY = 10


class Golden(msgspec.Struct):
    """What is known of the answers of one model in one build."""

    # Answers that it is learnt from; empty once it is.
    first: list[list[int]] = []
    words: list[int] = []
    agreements: list[float] = []

    @property
    def is_learnt(self) -> bool:
        return bool(self.agreements)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an answer shows: 1 of ``evidence_ratio`` takes a finding."""

    ratio: float
    usual_ratio: float
    evidence_ratio: float


class Canaries:
    """Compares answers, and keeps what they are compared with at ``path``."""

    def __init__(self, path: Path) -> None:
        self._file = LearnedFile(path, Golden, most=MOST_MODELS)
        self._known = self._file.read()
        # By endpoint: the model that it ran, and its lows in a row.
        self._lows: dict[str, tuple[str, int]] = {}
        self._unwritten = 0

    def note(
        self, service: str, endpoint: str, build: Sequence[str], words: Sequence[str]
    ) -> Agreement | None:
        """Return how ``words`` agree, ``None`` while that is being learnt.

        ``build``: whatever tells the model and its version; where it changes, all begins anew.
        """
        model = f"{service} {hashlib.blake2b(repr(build).encode(), digest_size=8).hexdigest()}"
        golden = self._known.setdefault(model, Golden())
        answer = [_hash(word) for word in words]
        if not golden.is_learnt:
            self._learn(golden, answer)
            return None
        ratio, usual = agreement(golden.words, answer), _usual(golden.agreements)
        ran, lows = self._lows.get(endpoint, (model, 0))
        is_low = ratio < usual - MARGIN
        lows = (lows if ran == model else 0) + 1 if is_low else 0
        self._lows[endpoint] = (model, lows)
        evidence = lows * _surprise(len(golden.agreements)) / -math.log(CHANCE)
        if not is_low:
            golden.agreements = [*golden.agreements, ratio][-KEPT:]
            self._changed()
        return Agreement(ratio, usual, evidence)

    def _learn(self, golden: Golden, answer: list[int]) -> None:
        golden.first.append(answer)
        if len(golden.first) == LEARNT_FROM:
            golden.words = max(golden.first, key=lambda one: _agrees(one, golden.first))
            golden.agreements = [agreement(golden.words, other) for other in golden.first]
            golden.first = []
            self._unwritten = WRITE_EVERY
        self._changed()

    def _changed(self) -> None:
        self._unwritten += 1
        if self._unwritten >= WRITE_EVERY and self._file.write(self._known):
            self._unwritten = 0


def agreement(golden: Sequence[int], answer: Sequence[int]) -> float:
    """Return the share of ``golden`` that ``answer`` begins with; of an empty one, all or none."""
    if not golden:
        return float(not answer)
    same = 0
    for expected, actual in zip(golden, answer, strict=False):
        if expected != actual:
            break
        same += 1
    return same / len(golden)


def _agrees(one: Sequence[int], others: Sequence[Sequence[int]]) -> float:
    return sum(agreement(one, other) for other in others)


def _usual(agreements: Sequence[float]) -> float:
    """Return the least agreement that is not rare."""
    return sorted(agreements)[len(agreements) // RARE]


def _surprise(known: int) -> float:
    """Return the negative logarithm of the chance that an answer as usual is the lowest yet."""
    return math.log((known + 1) / (known // RARE + 1))


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
