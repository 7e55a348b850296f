"""The running parts of the demo: real processes, by name, that can be killed and started again.

Every part runs in a session of its own and writes its output to a log of its own.  ``close`` ends
all of them and whatever they started, whatever happened before: a part that was killed may leave
helpers in sessions of their own, and those are known by a variable in their environment.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gpuward.daemon import subprocesses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuward.daemon.clock import Clock

READY_WITHIN_S = 120.0
END_WITHIN_S = 30.0
LOOK_EVERY_S = 0.05
LAST_LINES = 5
MARK_VARIABLE = "GPUWARD_DEMO_MARK"


class PartFailed(Exception):  # noqa: N818 - a condition of the machine, told to the user
    """A part ended or did not get ready; the message names it, its log and its last words."""


@dataclass(slots=True)
class Part:
    """One process: how to start it, and the file in which it says where it listens."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    addresses: Path
    log: Path
    process: subprocesses.Child | None = field(default=None, repr=False)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def address(self, protocol: str) -> str:
        """Return "host:port" as the part wrote it when it was ready."""
        found: str = json.loads(self.addresses.read_text(encoding="utf-8"))[protocol]
        return found

    def port(self, protocol: str) -> int:
        return int(self.address(protocol).rpartition(":")[2])


class Parts:
    """All parts by name, in the order they were started."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parts: dict[str, Part] = {}
        self._mark = secrets.token_hex(16)

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    async def start(self, part: Part) -> None:
        """Start ``part`` and wait until it says where it listens; raises ``PartFailed``."""
        self.adopt(part)
        part.addresses.unlink(missing_ok=True)
        with part.log.open("ab") as log:
            part.process = subprocesses.start(
                part.argv,
                env={**os.environ, **part.env, MARK_VARIABLE: self._mark},
                stdout=log,
                stderr=log,
            )
        deadline_s = self._clock.mono_s() + READY_WITHIN_S
        while not part.addresses.exists():
            if not part.is_running:
                raise PartFailed(f"{part.name} ended: {_last_words(part)}")
            if self._clock.mono_s() > deadline_s:
                raise PartFailed(f"{part.name} was not ready in {READY_WITHIN_S:.0f} s: {part.log}")
            await self._pause()

    def adopt(self, part: Part) -> None:
        """Answer for ``part`` from now on, running or not."""
        self._parts[part.name] = part

    def has(self, name: str) -> bool:
        """Return whether a part of that name was ever started."""
        return name in self._parts

    async def stop(self, name: str) -> None:
        """End a part politely."""
        await self.end(name, signal.SIGTERM)

    async def end(self, name: str, number: signal.Signals) -> None:
        """Send ``number`` to the part's group and wait for its end; SIGKILL when it takes long."""
        process = self._parts[name].process
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline_s = self._clock.mono_s() + END_WITHIN_S
        while process.poll() is None and self._clock.mono_s() < deadline_s:
            await self._pause()
        # What the part started itself must not outlive it either.
        subprocesses.kill_group(process.pid)
        process.wait()

    async def close(self) -> None:
        """End every part, the last started first."""
        for name in reversed(self._parts):
            await self.stop(name)
        deadline_s = self._clock.mono_s() + END_WITHIN_S
        while left := _marked(f"{MARK_VARIABLE}={self._mark}"):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._clock.mono_s() > deadline_s:
                return
            await self._pause()

    def check(self) -> None:
        """Raise ``PartFailed`` for a part that ended by itself."""
        for part in self._parts.values():
            if not part.is_running:
                raise PartFailed(f"{part.name} ended: {_last_words(part)}")

    async def _pause(self) -> None:
        await self._clock.sleep_until(self._clock.mono_s() + LOOK_EVERY_S)


def _last_words(part: Part) -> str:
    lines = part.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return f"see {part.log}; it last said: " + " / ".join(lines)


def _marked(assignment: str) -> list[int]:
    """Return the processes of this user that have ``assignment`` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if assignment.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found
