"""Decide what a report changes, so that one that changes nothing costs no transaction.

Nineteen of twenty reports say what the one before said.  Three things a report may bring: a new
state, which is durable before it is acknowledged; newer readings of the same state, which the next
report repeats and which therefore may wait; or nothing but a sign of life.
"""

from __future__ import annotations

from dataclasses import fields
from enum import Enum, auto
from operator import attrgetter
from typing import TYPE_CHECKING

from gpuward.coordinator.model import Finding

if TYPE_CHECKING:
    from gpuward.coordinator.report import Report


_DESCRIPTION = {"summary", "since_s", "last_seen_s", "count", "confidence", "evidence"}
# A field that is new is decisive.
_without_description = attrgetter(
    *(field.name for field in fields(Finding) if field.name not in _DESCRIPTION)
)


class Change(Enum):
    """What a report is, beside the newest one that was acknowledged."""

    # It, or a newer one, has been acknowledged before.
    OLD = auto()
    # The node lives.  Its service counters are readings of their own, and always new.
    LIFE = auto()
    # The same findings, with newer evidence.
    READINGS = auto()
    # Something was raised or cleared, changed what it says, or happened; or the agent is another.
    STATE = auto()


def what_changed(previous: Report | None, report: Report) -> Change:
    """Return what ``report`` changes.

    ``previous``: the newest report of this session that was acknowledged; ``None`` for none.
    """
    if previous is None or _agent(previous) != _agent(report):
        return Change.STATE
    if report.seq <= previous.seq:
        return Change.OLD
    if report.events:
        return Change.STATE
    if report.findings == previous.findings:
        return Change.LIFE
    same = _decisive(report.findings) == _decisive(previous.findings)
    return Change.READINGS if same else Change.STATE


def _agent(report: Report) -> tuple[str, str]:
    return report.boot_id, report.agent_instance


def _decisive(findings: tuple[Finding, ...]) -> dict[str, tuple[object, ...]]:
    """Return by id what of the findings is more than description."""
    return {f.finding_id: _without_description(f) for f in findings}
