"""How loud a kind of finding is here, where people have said otherwise than gpuward does.  Pure.

A promotion makes a finding at least as loud as it says, a demotion at most: a promoted kind's hard
fault stays a page, and a demoted kind's evidence stays evidence.  What follows from another open
finding is told by that one, unless it is the louder of the two.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gpuward.coordinator.model import FindingClass, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gpuward.coordinator.model import Finding
    from gpuward.coordinator.report import Report

LOUDNESS = (FindingClass.STORE, FindingClass.TICKET, FindingClass.PAGE)
# In the key of the finding that announces planned work on a node.
MAINTENANCE = "|node.maintenance|"
NAMES_SHOWN = 3


class Verb(StrEnum):
    """What a person did to a kind."""

    PROMOTE = "promote"
    DEMOTE = "demote"
    # Back to what agents say.
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Override:
    """A person's word on a kind; ``told`` is ``None`` for a reset."""

    kind: str
    verb: Verb
    told: FindingClass | None
    by: str
    reason: str
    at_s: float

    def class_of(self, default: FindingClass) -> FindingClass:
        """Return how loud a finding is whose agent says ``default``."""
        if self.told is None:
            return default
        louder = max if self.verb is Verb.PROMOTE else min
        return louder(default, self.told, key=LOUDNESS.index)

    @property
    def sentence(self) -> str:
        """Return who did what, for a timeline."""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.kind} is {self.verb.value}d to {self.told} by {self.by}{why}"


def apply(report: Report, overrides: Mapping[str, Override]) -> Report:
    """Return ``report`` with its findings as loud as ``overrides``, by kind, say."""
    if not overrides:
        return report
    loudness = {f.dedup_key: _class_of(f, overrides) for f in report.findings if f.is_open}
    return msgspec.structs.replace(
        report,
        findings=tuple(_told(f, overrides, loudness) for f in report.findings),
        events=tuple((seq, _told(f, overrides, loudness)) for seq, f in report.events),
    )


def _class_of(finding: Finding, overrides: Mapping[str, Override]) -> FindingClass:
    override = overrides.get(finding.kind)
    if override is None or finding.result is Result.OK:
        return finding.default_class
    return override.class_of(finding.default_class)


def _told(
    finding: Finding, overrides: Mapping[str, Override], loudness: Mapping[str, FindingClass]
) -> Finding:
    told = _class_of(finding, overrides)
    if told is finding.default_class:
        return finding
    is_louder = LOUDNESS.index(told) > LOUDNESS.index(finding.default_class)
    causes = (loudness.get(key) for key in finding.cause_dedup_keys if key != finding.dedup_key)
    if is_louder and any(MAINTENANCE in key for key in finding.cause_dedup_keys):
        # Planned work: who promoted the kind did not mean it.
        return finding
    if is_louder and any(c and LOUDNESS.index(c) >= LOUDNESS.index(told) for c in causes):
        return finding
    return replace(finding, default_class=told, class_note=overrides[finding.kind].sentence)


def next_class(current: FindingClass, verb: Verb) -> FindingClass | None:
    """Return the class one step louder or quieter; ``None`` where there is none."""
    place = LOUDNESS.index(current) + (1 if verb is Verb.PROMOTE else -1)
    return LOUDNESS[place] if 0 <= place < len(LOUDNESS) else None


def nearest(kind: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the names that ``kind`` may be a slip of, likeliest first."""
    return tuple(difflib.get_close_matches(kind, sorted(known), NAMES_SHOWN))
