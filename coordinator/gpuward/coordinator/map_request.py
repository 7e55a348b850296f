"""Which processes' memory maps belong to an incident, and what became of asking for them.

A map shows where memory is lost to fragmentation, so each process with a memory finding is asked
for one while the incident is open: once by the coordinator, and again when a person wants to see
how it is now.  The first is evidence and stays; the newest asked for by a person is kept beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from gpuward.coordinator.model import Finding, Incident

KINDS_PREFIX = "process.memory."
# Its process has no tap, so there is nobody to ask, and the finding says why.
BLIND = "process.memory.blind"
# Processes of one incident that are asked at all: what is kept of an incident has an end.
PROCESSES_LIMIT = 8
# A finding that is over as it comes, like an allocation that failed, leaves its process alive.
RECENT_S = 60.0
# A walk over all blocks stops Python in the process: nobody asks the same one more often.
NOT_AGAIN_WITHIN_S = 30.0
ID_LENGTH = 32


@dataclass(frozen=True, slots=True)
class MappedProcess:
    """A process on a GPU of a node; ``pid`` 0: that of the key which holds most."""

    node: str
    gpu_uuid: str
    process_key: str
    pid: int

    @property
    def id(self) -> str:
        """A short name of it; whoever reports names may make them too long for an index."""
        names = (self.node, self.gpu_uuid, self.process_key, str(self.pid))
        return sha256("\0".join(names).encode()).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True, slots=True)
class MapRequest:
    """One wish for a map and its outcome; it waits while ``due_at_s`` is set."""

    id: int
    incident_id: str
    process: MappedProcess
    on_request: bool
    due_at_s: float | None
    asked_at_s: float | None
    attempts: int = 0
    # Why there was no map the last time.
    refusal: str = ""
    # The newest one, packed; an older one stays while a fresh one is waited for.
    body: bytes | None = None

    @property
    def is_waiting(self) -> bool:
        return self.due_at_s is not None


def concerned(incident: Incident, findings: Iterable[Finding]) -> tuple[MappedProcess, ...]:
    """Return the processes of ``incident`` with a memory finding, each once, oldest finding first.

    ``findings``: at least those of the incident that exist.
    """
    own = {linked.finding_id for linked in incident.findings}
    found = (finding for finding in findings if finding.finding_id in own)
    return tuple(dict.fromkeys(_processes(found)))


def wanted(
    incident: Incident, findings: Iterable[Finding], asked: AbstractSet[str], now_s: float
) -> tuple[MappedProcess, ...]:
    """Return which processes should be asked: those that still live, as far as findings tell.

    ``asked``: ids of the processes of this incident that were asked before.
    """
    living = (f for f in findings if f.is_open or now_s - f.last_seen_s <= RECENT_S)
    fresh = [process for process in concerned(incident, living) if process.id not in asked]
    return tuple(fresh[: max(0, PROCESSES_LIMIT - len(asked))])


def _processes(findings: Iterable[Finding]) -> Iterator[MappedProcess]:
    for finding in findings:
        subject = finding.subject
        is_mapped = finding.kind.startswith(KINDS_PREFIX) and finding.kind != BLIND
        if is_mapped and subject.process_key and subject.gpu_uuid:
            yield MappedProcess(subject.node, subject.gpu_uuid, subject.process_key, subject.pid)
