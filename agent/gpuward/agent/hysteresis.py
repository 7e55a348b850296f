"""The life of a finding: raised when it has lasted, cleared when it has been gone, both once.

Pure: ``fold`` takes what was, what detectors say now, and the time, and returns what is and what
changed.  How long is long enough stands in ``KINDS``.  Not being able to look proves nothing:
while a condition is unknown it neither raises nor clears, and no time counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpuward.agent.kinds import KINDS
from gpuward.agent.model import Finding, OpenFinding, Outcome, Result
from gpuward.agent.suppression import UNEXPLAINED, explain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The worse of two findings with one key counts.
_OUTCOME_ORDER = (Outcome.UNKNOWN, Outcome.DOUBTFUL, Outcome.BAD)
_RESULT_ORDER = (Result.UNKNOWN, Result.OK, Result.WARN, Result.FAIL)


class Change(Enum):
    """What happened to a finding."""

    RAISED = "raised"
    # Its result changed, say from a ticket's to a page's, or whether another explains it.
    UPDATED = "updated"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one detector said; ``findings`` is ``None`` when it failed."""

    detector: str
    findings: tuple[Finding, ...] | None


@dataclass(frozen=True, slots=True)
class Condition:
    """One dedup key that was bad lately, raised or not yet."""

    detector: str
    # As of the last tick that found it bad.
    finding: Finding
    # Later by the time in which nobody could look.
    bad_since_s: float
    tick_s: float
    gone_since_s: float | None = None
    opened: OpenFinding | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All conditions by dedup key; finding ids are ``instance`` and a number."""

    instance: str
    raised: int = 0
    conditions: Mapping[str, Condition] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def open_findings(self) -> tuple[OpenFinding, ...]:
        """Return what is raised, oldest raise first."""
        opened = (c.opened for c in self.conditions.values() if c.opened is not None)
        return tuple(sorted(opened, key=lambda finding: (finding.raised_s, finding.finding_id)))


def fold(
    state: State,
    verdicts: Sequence[Verdict],
    now_s: float,
    *,
    resting: frozenset[str] = frozenset(),
) -> tuple[State, tuple[tuple[Change, OpenFinding], ...]]:
    """Return the state after one tick and what changed in it, in order of dedup keys.

    ``resting``: detectors that were not asked this time; what they said last stands.
    """
    said = _by_key(verdicts)
    failed = {verdict.detector for verdict in verdicts if verdict.findings is None}
    raised, conditions = state.raised, {}
    for key in sorted(said.keys() | state.conditions.keys()):
        before = state.conditions.get(key)
        if before is not None and before.detector in resting:
            conditions[key] = before
            continue
        detector, finding = said.get(key, ("", None))
        after = _step(before, detector, finding, now_s, blind=_of(before) in failed)
        if after is not None and _is_due(after, finding, now_s):
            raised += 1
            after = replace(after, opened=_open(after, f"{state.instance}-{raised}", now_s))
        if after is not None:
            conditions[key] = after
    _link(conditions)
    changes = [
        change
        for key in sorted(state.conditions.keys() | conditions.keys())
        for change in _changes(state.conditions.get(key), conditions.get(key))
    ]
    return State(state.instance, raised, MappingProxyType(conditions)), tuple(changes)


def _link(conditions: dict[str, Condition]) -> None:
    """Link what is open to what it follows from; what is only about to be raised counts too."""
    explained = explain({key: condition.finding for key, condition in conditions.items()})
    for key, condition in conditions.items():
        opened, why = condition.opened, explained.get(key, UNEXPLAINED)
        if opened is None or (opened.explained_by, opened.suppressed) == (why.causes, why.is_told):
            continue
        if opened.suppressed and condition.gone_since_s is not None:
            # It is over.  That its cause has cleared a moment before it is news to nobody.
            continue
        opened = replace(opened, explained_by=why.causes, suppressed=why.is_told)
        conditions[key] = replace(condition, opened=opened)


def _by_key(verdicts: Sequence[Verdict]) -> dict[str, tuple[str, Finding]]:
    said: dict[str, tuple[str, Finding]] = {}
    for verdict in verdicts:
        for finding in verdict.findings or ():
            known = said.get(finding.dedup_key)
            if known is None or _badness(finding) > _badness(known[1]):
                said[finding.dedup_key] = (verdict.detector, finding)
    return said


def _badness(finding: Finding) -> tuple[int, int]:
    return (_OUTCOME_ORDER.index(finding.outcome), _RESULT_ORDER.index(finding.result))


def _of(condition: Condition | None) -> str:
    return "" if condition is None else condition.detector


def _step(
    before: Condition | None, detector: str, finding: Finding | None, now_s: float, *, blind: bool
) -> Condition | None:
    """Return the condition after this tick, ``None`` when there is nothing left to remember."""
    if finding is not None and finding.outcome is Outcome.BAD:
        return _bad(before, detector, finding, now_s)
    if before is None:
        return None
    if blind or (finding is not None and finding.outcome is Outcome.UNKNOWN):
        # The clock stops: what was not seen did not last.
        bad_since_s = before.bad_since_s + now_s - before.tick_s
        return replace(before, bad_since_s=bad_since_s, tick_s=now_s, gone_since_s=None)
    if before.opened is None:
        return None
    if finding is not None:
        return replace(before, tick_s=now_s, gone_since_s=None)
    return _gone(before, now_s)


def _gone(before: Condition, now_s: float) -> Condition | None:
    gone_since_s = now_s if before.gone_since_s is None else before.gone_since_s
    if now_s - gone_since_s >= KINDS[before.finding.kind].clear_after_s:
        return None
    return replace(before, tick_s=now_s, gone_since_s=gone_since_s)


def _bad(before: Condition | None, detector: str, finding: Finding, now_s: float) -> Condition:
    if before is None:
        return Condition(detector, finding, bad_since_s=now_s, tick_s=now_s)
    finding = _lasting(finding, now_s - before.bad_since_s)
    opened = before.opened
    if opened is not None:
        opened = replace(
            opened,
            finding=finding,
            since_s=min(opened.since_s, _onset(finding, now_s)),
            last_seen_s=now_s,
            count=opened.count + 1,
        )
    return Condition(detector, finding, before.bad_since_s, now_s, None, opened)


def _lasting(finding: Finding, lasted_s: float) -> Finding:
    """Return a warning that has lasted too long as a failure."""
    if finding.fails_after_s is None or lasted_s < finding.fails_after_s:
        return finding
    return replace(finding, result=Result.FAIL)


def _is_due(condition: Condition, finding: Finding | None, now_s: float) -> bool:
    seen = finding is not None and finding.outcome is Outcome.BAD
    lasted_s = now_s - condition.bad_since_s
    long_enough = lasted_s >= KINDS[condition.finding.kind].raise_after_s
    return condition.opened is None and seen and long_enough


def _open(condition: Condition, finding_id: str, now_s: float) -> OpenFinding:
    return OpenFinding(
        finding_id=finding_id,
        finding=condition.finding,
        since_s=min(condition.bad_since_s, _onset(condition.finding, now_s)),
        raised_s=now_s,
        last_seen_s=now_s,
        count=1,
    )


def _onset(finding: Finding, now_s: float) -> float:
    return now_s if finding.since_s is None else min(finding.since_s, now_s)


def _changes(
    before: Condition | None, after: Condition | None
) -> tuple[tuple[Change, OpenFinding], ...]:
    was = None if before is None else before.opened
    now = None if after is None else after.opened
    if was is None and now is not None:
        return ((Change.RAISED, now),)
    if was is not None and now is None:
        return ((Change.CLEARED, was),)
    if was is not None and now is not None and _loudness(was) != _loudness(now):
        return ((Change.UPDATED, now),)
    return ()


def _loudness(opened: OpenFinding) -> tuple[Result, bool, bool]:
    return (opened.finding.result, opened.finding.in_maintenance, opened.suppressed)
