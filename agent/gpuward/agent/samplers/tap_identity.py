"""Name the writers of tap files without reading a command line in the agent's own process.

A process with a tap holds GPU memory, so the driver lists it, and the NVML child has named it; that
name is used, so that the driver's series and the tap's carry one key.  Only where the driver does
not list it in time (missing, hung, another PID namespace) is it named by its place alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.process_identity import place, stat_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from gpuward.agent.model import Process
    from gpuward.daemon.clock import Clock
    from gpuward.tap.layout import Header

# The driver's process lists are read every 5 s; three turns.
LISTED_WITHIN_S = 15.0
# Forgotten above this: a node does not have as many processes with a tap.
MAX_WAITING = 1_000


def rank_of(header: Header) -> str:
    """Return the place that torchrun gave a process among those of its model, empty if none."""
    return f"RANK{header.rank}" if header.world > 1 else ""


def uids_of(folder: Path) -> frozenset[int]:
    """Return the real, effective, saved and file-system user ids of a process, empty when gone."""
    try:
        lines = (folder / "status").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    words = next((line.split()[1:] for line in lines if line.startswith("Uid:")), [])
    return frozenset(int(word) for word in words)


class WriterNames:
    """Says who a pid is; ``listed`` returns the processes that the driver lists now."""

    def __init__(self, listed: Callable[[], Iterable[Process]], clock: Clock) -> None:
        self._listed = listed
        self._clock = clock
        self._first_s: dict[int, float] = {}

    def __call__(self, pid: int, proc_root: Path) -> Process | None:
        """Return the process of host pid ``pid``; ``None`` when it is gone, or not known yet."""
        stat = stat_of(pid, proc_root)
        if stat is None:
            return None
        # The list is up to 20 s old: the pid may be another's by now.
        who = (pid, stat.start_ticks)
        known = next((one for one in self._listed() if (one.pid, one.start_ticks) == who), None)
        if known is not None:
            self._first_s.pop(pid, None)
            return known
        if len(self._first_s) > MAX_WAITING:
            self._first_s.clear()
        now_s = self._clock.mono_s()
        if now_s < self._first_s.setdefault(pid, now_s) + LISTED_WITHIN_S:
            return None
        return place(pid, proc_root)
