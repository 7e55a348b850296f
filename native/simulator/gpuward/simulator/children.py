"""Real child processes that a scenario starts, so that pids in NVML's lists are real ones."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Protocol

from gpuward.daemon import subprocesses

if TYPE_CHECKING:
    from collections.abc import Sequence


class Children(Protocol):
    """Starts and signals processes by the scenario's names for them."""

    def start(self, name: str, command: Sequence[str]) -> int:
        """Start ``command`` and return its pid; raises ``OSError``."""
        ...

    def pid(self, name: str) -> int | None:
        """Return the pid of a living process that was started."""
        ...

    def send(self, name: str, number: signal.Signals) -> None:
        """Signal a process; one that is gone is no error."""
        ...

    def reap(self) -> None:
        """Collect those that ended, so that none stays a zombie."""
        ...

    def end(self) -> None:
        """Kill all and wait for them."""
        ...


class RealChildren:
    """The operating system's processes, each in a session of its own."""

    def __init__(self) -> None:
        self._children: dict[str, subprocesses.Child] = {}

    def start(self, name: str, command: Sequence[str]) -> int:
        self._children[name] = subprocesses.start(command)
        return self._children[name].pid

    def pid(self, name: str) -> int | None:
        child = self._children.get(name)
        return child.pid if child is not None and child.poll() is None else None

    def send(self, name: str, number: signal.Signals) -> None:
        # A pid that was reaped may be another process by now.
        if (pid := self.pid(name)) is not None:
            subprocesses.kill_group(pid, number)

    def reap(self) -> None:
        for child in self._children.values():
            child.poll()

    def end(self) -> None:
        for name, child in self._children.items():
            self.send(name, signal.SIGKILL)
            child.wait()
