"""Remember who a process is: finding out reads half a dozen files of /proc, and it is the same.

A pid comes back, so what is known is of a pid and its start.  A process may still take another name
(an engine writes a title of its own once it has started), so it is found out anew, twice as late
each time and once a minute at last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.process_identity import DEAD, identify, stat_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from gpuward.agent.model import Process

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class _Known:
    process: Process
    since_s: float
    looked_s: float

    def is_due(self, now_s: float) -> bool:
        pause_s = max(FIRST_PAUSE_S, self.looked_s - self.since_s)
        return now_s - self.looked_s >= min(pause_s, LONGEST_PAUSE_S)


class KnownProcesses:
    """Says who a pid is; ``find_out`` does the work."""

    def __init__(
        self, proc_root: Path, find_out: Callable[[int, Path], Process | None] = identify
    ) -> None:
        self._proc_root = proc_root
        self._find_out = find_out
        self._known: dict[int, _Known] = {}

    def who(self, pid: int, now_s: float) -> Process | None:
        """Return the process ``pid``, ``None`` when it is gone."""
        known = self._known.get(pid)
        if known is not None and not known.is_due(now_s) and self._lives(known.process):
            return known.process
        process = self._find_out(pid, self._proc_root)
        if process is None:
            self._known.pop(pid, None)
            return None
        is_same = known is not None and known.process.start_ticks == process.start_ticks
        since_s = known.since_s if known is not None and is_same else now_s
        self._known[pid] = _Known(process, since_s, now_s)
        return process

    def forget_all_but(self, pids: Collection[int]) -> None:
        """Forget the processes that are asked for no more."""
        for pid in self._known.keys() - pids:
            del self._known[pid]

    def _lives(self, process: Process) -> bool:
        stat = stat_of(process.pid, self._proc_root)
        return (
            stat is not None and stat.start_ticks == process.start_ticks and stat.state not in DEAD
        )
