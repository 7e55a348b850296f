"""Raise findings on purpose, so that a team sees who is paged and what they do.

A drill lives beside what detectors judge: it neither explains nor hides a real finding, its dedup
key is its own, and it is gone when its time is over or the agent ends.  Everywhere it is marked:
its summary begins with DRILL and its evidence says so.  A ticket unless a page was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.kinds import KINDS
from gpuward.agent.model import Evidence, Finding, FindingClass, OpenFinding, Result, Subject

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

MARK = "DRILL"
LONGEST_S = 3_600.0
# More at once teach nobody anything.
MOST = 10
# Kinds that mean nothing without a code, and one that an operator knows.
CODED = {"gpu.xid": 79, "node.sxid": 20034}


class DrillRefusedError(Exception):
    """There is no such drill; the message is one line that says what to mend."""


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill that was asked for; ``page``: as loud as a page, else a ticket."""

    kind: str
    code: int
    subject: Subject
    for_s: float
    page: bool


@dataclass(frozen=True, slots=True)
class _Running:
    opened: OpenFinding
    until_s: float


class Drills:
    """The drills of a node; ``is_allowed`` as the configuration says."""

    def __init__(self, clock: Clock, *, instance: str, is_allowed: bool) -> None:
        self._clock = clock
        self._instance = instance
        self._is_allowed = is_allowed
        self._started = 0
        self._running: dict[str, _Running] = {}

    def start(self, drill: Drill) -> tuple[str, float]:
        """Begin ``drill``; return its finding's id and when it ends, monotonic seconds.

        The same drill again begins anew.  Raises ``DrillRefusedError``.
        """
        self._check(drill)
        now_s = self._clock.mono_s()
        self._started += 1
        finding_id = f"{self._instance}-d{self._started}"
        finding = _finding(drill)
        opened = OpenFinding(finding_id, finding, now_s, now_s, now_s, count=1)
        self._running[finding.dedup_key] = _Running(opened, now_s + drill.for_s)
        log.warning("drill.started", kind=drill.kind, for_s=drill.for_s, page=drill.page)
        return finding_id, now_s + drill.for_s

    def end(self) -> int:
        """End every drill; return how many there were."""
        count = len(self.open_findings())
        self._running.clear()
        if count:
            log.warning("drill.ended", drills=count)
        return count

    def open_findings(self) -> tuple[OpenFinding, ...]:
        """Return what drills have open now, as if it had just been seen; ended ones are gone."""
        now_s = self._clock.mono_s()
        over = [key for key, running in self._running.items() if now_s >= running.until_s]
        for key in over:
            del self._running[key]
        if over:
            log.warning("drill.ended", drills=len(over))
        return tuple(replace(r.opened, last_seen_s=now_s) for r in self._running.values())

    def _check(self, drill: Drill) -> None:
        if not self._is_allowed:
            raise DrillRefusedError(
                "drills are not allowed here: set [drills] allowed = true and restart the agent"
            )
        if drill.kind not in KINDS:
            raise DrillRefusedError(f"no kind {drill.kind[:80]!r}: see docs/findings.md")
        if drill.kind in CODED and drill.code <= 0:
            raise DrillRefusedError(
                f"{drill.kind} needs a code: --code {CODED[drill.kind]}, for example"
            )
        if not 0 < drill.for_s <= LONGEST_S:
            raise DrillRefusedError(f"a drill lasts up to {LONGEST_S:.0f} s, not {drill.for_s:g} s")
        if len(self.open_findings()) >= MOST:
            raise DrillRefusedError(f"{MOST} drills run already: end them first")


def _finding(drill: Drill) -> Finding:
    return Finding(
        kind=drill.kind,
        subject=drill.subject,
        summary=f"{MARK}: {KINDS[drill.kind].meaning} Raised on purpose, nothing is wrong.",
        result=Result.FAIL if drill.page else Result.WARN,
        code=drill.code,
        evidence=(Evidence("drill", 1.0, "1", text="Raised on purpose.", source="person"),),
        drill=FindingClass.PAGE if drill.page else FindingClass.TICKET,
    )
