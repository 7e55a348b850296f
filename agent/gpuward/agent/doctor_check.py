"""What `gpuward agent doctor` knows and says: facts about this machine, and lines about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuward.agent.doctor_facts import Folder
    from gpuward.agent.model import ComponentHealth


class Level(IntEnum):
    """How bad a line is; the exit status is the worst."""

    OK = 0
    WARN = 1
    FAIL = 2


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found and, where that is not well, how to mend it."""

    level: Level
    what: str
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine allows; ``None``: nobody could say."""

    capabilities: int
    sees_every_pid: bool
    hides_processes: bool
    tap_directory: str
    tap_folder: Folder | None
    state_directory: str
    state_free_bytes: int | None
    clock_is_synchronised: bool | None
    programs: frozenset[str]
    # Whether a process has torch loaded, by pid.
    torch: Mapping[int, bool | None]
    # Why not, by address; empty: somebody listens there.  The agent's own, then the coordinator's.
    agent: str
    agent_trouble: str
    # What the running agent says of its parts.
    agent_parts: Sequence[ComponentHealth]
    taken_ports: Sequence[str]
    coordinator: str
    coordinator_trouble: str
