"""Keep the driver calls that nobody has come back from, and what becomes of who made them.

A child's main thread reports its unanswered calls, and when that is silent too, the silence is one.
A child whose call hangs for two minutes is left behind, so that another finds out whether the
driver serves new callers; its call counts until the same GPU has answered somebody.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.nvml_link import Blocked, blocked
from gpuward.agent.nvml_protocol import Gone, Leaving, Present, Readings, Waiting
from gpuward.agent.nvml_witness import NO_GPU

if TYPE_CHECKING:
    from pathlib import Path

    from gpuward.agent.model import Driver
    from gpuward.agent.nvml_children import Children
    from gpuward.agent.nvml_protocol import Heartbeat, Message
    from gpuward.agent.nvml_witness import Witness

log = structlog.get_logger()

# The child speaks every second; less than this is a busy node.
SILENT_S = 3.0
ABANDON_S = 120.0
UNINTERRUPTIBLE = "D"


class Waits:
    """The unanswered calls of the running child and of those left behind."""

    def __init__(self, children: Children, witness: Witness, proc_root: Path) -> None:
        self._children = children
        self._witness = witness
        self._proc_root = proc_root
        self._heard_s = 0.0
        self._heartbeat: Heartbeat | None = None
        # Calls of children left behind, by GPU index.
        self._left: dict[int, Waiting] = {}

    def started(self, now_s: float) -> None:
        """Note that a new child has been started: it has said nothing yet."""
        self._heard_s, self._heartbeat = now_s, None

    def hear(self, message: Message, heartbeat: Heartbeat | None, now_s: float) -> None:
        """Take in a message of the running child; ``heartbeat``: its newest."""
        self._heard_s, self._heartbeat = now_s, heartbeat
        match message:
            case Readings():
                self._left.pop(message.index, None)
            case Present():
                self._left.pop(NO_GPU, None)
            case Gone() | Leaving():
                self._left.clear()

    def forget(self) -> None:
        """Forget the calls of those left behind."""
        self._left.clear()

    def leave_hung_behind(self, now_s: float) -> None:
        """Leave the running child behind when a call of it hangs, if that is still allowed."""
        hung = [call for call in self._running(now_s) if now_s - call.since_s >= ABANDON_S]
        if hung and self._children.abandon(now_s):
            for call in hung:
                self._left.setdefault(call.index, call)
            total = self._children.abandoned_total
            log.error("nvml_child.abandoned", call=hung[0].call, total=total)

    def oldest(self, now_s: float) -> Waiting | None:
        """Return the call that waits longest, and let a witness look at it in time."""
        calls = [*self._running(now_s), *self._left.values()]
        oldest = min(calls, key=lambda call: call.since_s, default=None)
        self._witness.look(oldest, now_s)
        return oldest

    def shown(self, call: Waiting, driver: Driver, gpu: str, now_s: float) -> Driver:
        """Return ``driver`` with what is known of ``call``; ``gpu``: whose it is, if anybody's."""
        where = self._where(call)
        is_in_driver = where.state == UNINTERRUPTIBLE and where.in_driver
        confirmed_by = "the kernel's stack" if is_in_driver else ""
        return replace(
            driver,
            waiting_s=max(0.0, now_s - call.since_s),
            waiting_gpu=gpu,
            waiting_call=call.call,
            blocked_state=where.state,
            wait_channel=where.wait_channel,
            confirmed_by="a second process" if self._witness.confirms else confirmed_by,
        )

    def _running(self, now_s: float) -> list[Waiting]:
        child = self._children.current
        if child is None:
            return []
        waiting = list(self._heartbeat.waiting) if self._heartbeat else []
        if now_s - self._heard_s > SILENT_S:
            waiting.append(Waiting(NO_GPU, "", self._heard_s, child.pid))
        return waiting

    def _where(self, call: Waiting) -> Blocked:
        for pid in self._children.pids():
            found = blocked(self._proc_root, pid, call.thread_id)
            if found.state:
                return found
        return Blocked()
