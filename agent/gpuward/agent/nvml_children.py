"""Keep one NVML child running: start it again when it ends, leave it behind when it hangs.

Restarts back off from 1 s to 30 s, since a node may be without a driver for days; a child that died
by itself is started again at once, though not twice within half a minute.  At most two hung
children are left behind at a time: each may hold driver memory and locks until the reboot.
"""

from __future__ import annotations

import asyncio
import signal
from math import inf
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.nvml_link import Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gpuward.agent.nvml_protocol import Message

log = structlog.get_logger()

FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 30.0
# A child that lived this long starts the back-off anew.
SETTLED_S = 30.0
ABANDONED_LIMIT = 2
# Hanging up, then SIGTERM, then SIGKILL: 2.8 s together.
LEAVE_S = 1.8
TERMINATE_S = 0.7
KILL_S = 0.3
POLL_S = 0.02


class Children:
    """The running child, if any, and those left behind."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._command = command
        self._env = env
        self.current: Link | None = None
        self._abandoned: list[Link] = []
        self._start_s = 0.0
        self._back_off_s = FIRST_BACK_OFF_S
        self._hurried_s = -inf
        self.started_total = 0
        self.abandoned_total = 0

    @property
    def abandoned(self) -> int:
        """How many hung children are left behind now."""
        self._abandoned = [link for link in self._abandoned if link.exit_status() is None]
        return len(self._abandoned)

    def start_if_due(self, now_s: float) -> bool:
        """Return whether a new child was started; raises ``OSError`` when one cannot be."""
        if self.current is not None or now_s < self._start_s:
            return False
        try:
            self.current = Link(self._command, self._env, now_s)
        except OSError:
            self._retry_later(now_s)
            raise
        self.started_total += 1
        return True

    def hurry(self, now_s: float) -> None:
        """Start the next child now, whatever came before."""
        self._start_s, self._back_off_s = now_s, FIRST_BACK_OFF_S

    def forgive(self, now_s: float) -> bool:
        """Start the next child at once after one that died; returns False when one just did."""
        if now_s - self._hurried_s < SETTLED_S:
            return False
        self._hurried_s = now_s
        self.hurry(now_s)
        return True

    def receive(self, now_s: float) -> tuple[list[Message], int | None]:
        """Return what the child said, and its exit status when those were its last words."""
        link = self.current
        if link is None:
            return [], None
        # Asked before the words are read, so that the last of them are not missed.
        status = link.exit_status()
        messages = link.receive()
        if status is not None:
            link.hang_up()
            self.current = None
            if now_s - link.started_s > SETTLED_S:
                self._back_off_s = FIRST_BACK_OFF_S
            self._retry_later(now_s)
        return messages, status

    def abandon(self, now_s: float) -> bool:
        """Leave the child behind if that is still allowed; returns whether it was."""
        if self.current is None or self.abandoned >= ABANDONED_LIMIT:
            return False
        self.current.hang_up()
        self._abandoned.append(self.current)
        self.current = None
        self.abandoned_total += 1
        self._retry_later(now_s)
        return True

    def pids(self) -> list[int]:
        """Return the process ids of all that still run, the current one first."""
        return [link.pid for link in (self.current, *self._abandoned) if link is not None]

    async def stop(self) -> tuple[int, ...]:
        """End all within 3 s; returns the pids of those that the kernel holds, left behind."""
        links = [link for link in (self.current, *self._abandoned) if link is not None]
        self.current, self._abandoned = None, []
        self._abandoned = await end(links)
        return tuple(link.pid for link in self._abandoned)

    def _retry_later(self, now_s: float) -> None:
        self._start_s = now_s + self._back_off_s
        self._back_off_s = min(2 * self._back_off_s, LONGEST_BACK_OFF_S)


async def end(links: list[Link]) -> list[Link]:
    """End the children within 3 s, politely first; returns those that did not end."""
    for link in links:
        link.hang_up()
    links = await _still_running(links, LEAVE_S)
    for number, within_s in ((signal.SIGTERM, TERMINATE_S), (signal.SIGKILL, KILL_S)):
        for link in links:
            link.signal(number)
        links = await _still_running(links, within_s)
    for link in links:
        log.error("nvml_child.left_behind", pid=link.pid)
    return links


async def _still_running(links: Iterable[Link], within_s: float) -> list[Link]:
    """Return the links whose child has not ended within the time."""
    running = [link for link in links if link.exit_status() is None]
    deadline_s = asyncio.get_running_loop().time() + within_s
    while running and asyncio.get_running_loop().time() < deadline_s:
        await asyncio.sleep(POLL_S)
        running = [link for link in running if link.exit_status() is None]
    return running
