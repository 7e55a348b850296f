"""State the node's condition in Kubernetes' words, for node-problem-detector to set on the node.

As there, ``True`` is trouble.  Only what is wrong with the node counts: with a GPU or the driver,
not with the processes on them.  What is told elsewhere, or happens in a maintenance, is no
condition; and a node that cannot be looked at is ``Unknown``, never healthy.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gpuward.agent.kinds import KINDS, class_of
from gpuward.agent.model import Action, CauseDomain, FindingClass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import OpenFinding, Snapshot

MAX_MESSAGE = 256


@dataclass(frozen=True, slots=True)
class Condition:
    """Fields as in Kubernetes' NodeCondition; ``since`` is empty where nothing is wrong."""

    type: str
    status: str
    reason: str
    message: str
    since: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    type: str
    domain: CauseDomain
    loudness: FindingClass


_ROWS = (
    _Row("GpuDriverFault", CauseDomain.DRIVER, FindingClass.PAGE),
    _Row("GpuFault", CauseDomain.GPU, FindingClass.PAGE),
    _Row("GpuDegraded", CauseDomain.GPU, FindingClass.TICKET),
)
# A node that is drained for what an application did is a node lost for nothing.
_OF_APPLICATIONS = frozenset({Action.CHECK_APPLICATION, Action.RESTART_APPLICATION})
TYPES = tuple(row.type for row in _ROWS)


def conditions(snapshot: Snapshot, *, is_judging: bool) -> tuple[Condition, ...]:
    """Return every condition, in the order of ``TYPES``.

    ``is_judging``: whether ``snapshot`` is of now.
    """
    return tuple(_condition(row, snapshot, is_judging=is_judging) for row in _ROWS)


def _condition(row: _Row, snapshot: Snapshot, *, is_judging: bool) -> Condition:
    if not is_judging:
        return Condition(row.type, "Unknown", "AgentStuck", "gpuward agent does not judge")
    found = sorted(_told(row, snapshot), key=lambda opened: opened.raised_s)
    if found:
        return _trouble(row, found, snapshot.wall_offset_s)
    if not snapshot.driver.up and row.domain is CauseDomain.GPU:
        message = snapshot.driver.reason or "the driver is missing or does not answer"
        return Condition(row.type, "Unknown", "DriverDown", message[:MAX_MESSAGE])
    return Condition(row.type, "False", f"No{row.type}", "nothing found")


def _told(row: _Row, snapshot: Snapshot) -> Iterator[OpenFinding]:
    for opened in snapshot.open_findings:
        finding = opened.finding
        kind = KINDS[finding.kind]
        if (
            kind.domain is row.domain
            and (finding.action or kind.action) not in _OF_APPLICATIONS
            and class_of(finding) is row.loudness
            # Whoever drains nodes by their conditions must not drain one for a drill.
            and finding.drill is None
            and not (opened.suppressed or finding.in_maintenance)
        ):
            yield opened


def _trouble(row: _Row, found: list[OpenFinding], wall_offset_s: float) -> Condition:
    first = found[0]
    reason = first.finding.kind.replace("_", ".").title().replace(".", "")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    message = first.finding.summary[: MAX_MESSAGE - len(more)] + more
    since = datetime.fromtimestamp(first.raised_s + wall_offset_s, UTC)
    return Condition(row.type, "True", reason, message, since.strftime("%Y-%m-%dT%H:%M:%SZ"))
