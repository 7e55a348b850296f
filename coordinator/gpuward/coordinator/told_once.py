"""Tell a trouble once, however many findings tell it.  Pure.

An XID comes twice: as what happened, which is over in the same instant, and as what stands since.
So does trouble that went and came again.  They have one key, and people read one finding: the one
that stands, with what the others know besides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpuward.coordinator.model import Evidence, Finding, LinkedFinding


def standing(findings: Iterable[LinkedFinding]) -> list[LinkedFinding]:
    """Return of each key the one that is open, else the newest, in the order of their keys."""
    told: dict[str, LinkedFinding] = {}
    for finding in findings:
        known = told.get(finding.dedup_key)
        if known is None or finding.is_open or not known.is_open:
            told[finding.dedup_key] = finding
    return list(told.values())


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return of each key what ``standing`` does, with the evidence of all, in the same order."""
    told: dict[str, list[Finding]] = {}
    for finding in findings:
        told.setdefault(finding.dedup_key, []).append(finding)
    return tuple(map(_merged, told.values()))


def _merged(same: Sequence[Finding]) -> Finding:
    newest_first = same[::-1]
    best, *others = sorted(newest_first, key=lambda finding: not finding.is_open)
    evidence = list(best.evidence)
    for other in others:
        evidence += (fact for fact in other.evidence if not _is_told(fact, evidence))
    return replace(best, evidence=tuple(evidence))


def _is_told(fact: Evidence, told: Iterable[Evidence]) -> bool:
    """Return whether a newer fact has its name, or says the same in the same words."""
    return any(fact.name == known.name or (fact.text and fact.text == known.text) for known in told)
