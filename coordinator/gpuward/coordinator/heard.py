"""What this replica remembers of a node's session, so that a report need not ask the database.

A cache of what was acknowledged here, no more.  Its assumption: a node talks to one replica at a
time, and begins a new session when it changes.  A node whose life the database has not heard of for
a while is not trusted: another replica may have called it silent, so its next report is compared
with the database again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.coordinator.model import Finding, ServiceTotals
    from gpuward.coordinator.report import Report, Sight, SignOfLife

# Well before a node is called silent, and long after what is pending should have been written.
TRUSTED_S = 30.0
# Counters that wait at most: instances that come and go faster are written with their report.
TOTALS_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Pending:
    """A sign of life to be written, and all that is newer than what the database knows.

    ``readings``: open findings with newer evidence, as they were last seen.
    """

    life: SignOfLife
    readings: tuple[Finding, ...]
    totals: tuple[ServiceTotals, ...]

    @property
    def sights(self) -> Iterator[tuple[str, str, Sight]]:
        """How those findings were last seen of which nothing else is new, by node and id."""
        report, newer = self.life.report, {finding.finding_id for finding in self.readings}
        return ((report.node, i, s) for i, s in report.sights.items() if i not in newer)


@dataclass(slots=True)
class Heard:
    """One session of a node, opened at ``opened_s``."""

    session: int
    opened_s: float
    is_over: bool = False
    _life: SignOfLife | None = None
    _written: SignOfLife | None = None
    _totals: dict[tuple[str, str, float], ServiceTotals] = field(default_factory=dict)

    @property
    def report(self) -> Report | None:
        """The newest report that was acknowledged."""
        return None if self._life is None else self._life.report

    def is_trusted(self, now_s: float) -> bool:
        written_s = self.opened_s if self._written is None else self._written.at_s
        return now_s - written_s <= TRUSTED_S and len(self._totals) <= TOTALS_LIMIT

    def hear(self, life: SignOfLife) -> None:
        """Remember a report that is acknowledged before it is written: it changes no state."""
        self._totals.update(_by_run(life.report.service_totals))
        self._life = life

    @property
    def waits(self) -> bool:
        """Whether anything has been heard that is not written."""
        return self._life is not self._written

    def pending(self) -> Pending:
        """Return what waits to be written; raises ``ValueError`` when nothing does."""
        if self._life is None:
            raise ValueError("nothing has been heard yet")
        return Pending(self._life, self._readings(self._life.report), tuple(self._totals.values()))

    def _readings(self, report: Report) -> tuple[Finding, ...]:
        """Return what ``report`` says anew of findings that were open when last written."""
        written = () if self._written is None else self._written.report.findings
        if report.findings == written:
            return ()
        before = {finding.finding_id: finding for finding in written}
        newer = (f for f in report.findings if before.get(f.finding_id) != f)
        return tuple(map(report.seen, newer))

    def settle(self, pending: Pending) -> None:
        """Forget what of ``pending`` nothing newer has replaced: it is written."""
        self._written = pending.life
        for run, reading in _by_run(pending.totals).items():
            if self._totals.get(run) is reading:
                del self._totals[run]

    def with_state(self, life: SignOfLife) -> Pending:
        """Return what has to be written at once for a report that changes the node's state."""
        totals = self._totals | _by_run(life.report.service_totals)
        as_seen = msgspec.structs.replace(life, report=life.report.as_seen())
        return Pending(as_seen, (), tuple(totals.values()))

    def store(self, life: SignOfLife) -> None:
        """Remember that ``with_state(life)`` is written: all that waited, and more."""
        self._life = self._written = life
        self._totals.clear()


def _by_run(totals: tuple[ServiceTotals, ...]) -> dict[tuple[str, str, float], ServiceTotals]:
    """Return the readings by run of an instance: of each the newest says all that was counted."""
    return {(t.service, t.instance, t.started_at_s): t for t in totals}
