"""Ask a second child whether the driver is as silent as the first one finds it.

A call that does not come back may be the fault of the child that made it: stopped, starved, stuck
in a bug of the library.  Before anybody is told to reboot a node full of work, a new process asks
the driver about the same GPU.  There is one such witness in a hang, and none while an earlier one
is itself still held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gpuward.agent.nvml_children import end
from gpuward.agent.nvml_link import Link
from gpuward.agent.nvml_protocol import Heartbeat, Present, Readings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuward.agent.nvml_protocol import Message, Waiting

log = structlog.get_logger()

# A stalled call is a ticket by now; the answer is there before it is a page at 60 s.
ASKED_AFTER_S = 20.0
# As long as the first child's call had to wait to count as stalled.
SILENT_S = 10.0
NO_GPU = -1


class Witness:
    """The second child of the hang at hand, if there is one."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._command = command
        self._env = env
        self._link: Link | None = None
        self._index = NO_GPU
        self._was_asked = False
        # Hung up on, not ended yet.
        self._leaving: list[Link] = []
        self.confirms = False

    @property
    def held(self) -> int:
        """How many witnesses the driver still holds."""
        self._leaving = [link for link in self._leaving if link.exit_status() is None]
        return len(self._leaving)

    def look(self, call: Waiting | None, now_s: float) -> None:
        """Take the oldest unanswered call, ``None`` when there is none, and see to the witness."""
        if call is None or now_s - call.since_s < ASKED_AFTER_S:
            self._dismiss()
            self._was_asked = self.confirms = False
            return
        if not self._was_asked and not self.held:
            self._ask(call, now_s)
        if self._link is not None:
            self._hear(self._link, now_s)

    async def stop(self) -> None:
        """End the witness."""
        self._dismiss()
        self._leaving = await end(self._leaving)

    def _ask(self, call: Waiting, now_s: float) -> None:
        self._was_asked = True
        self._index = call.index
        try:
            self._link = Link([*self._command, "--only", str(call.index)], self._env, now_s)
        except OSError as error:
            log.warning("nvml_witness.not_started", reason=error.strerror)

    def _hear(self, link: Link, now_s: float) -> None:
        messages = link.receive()
        if any(self._is_answer(message) for message in messages):
            log.warning("nvml_witness.answered", index=self._index)
            self._dismiss()
        elif any(self._is_silence(message, now_s) for message in messages):
            log.error("nvml_witness.confirmed", index=self._index)
            self.confirms = True
            self._dismiss()
        elif link.exit_status() is not None:
            self._dismiss()

    def _is_answer(self, message: Message) -> bool:
        if self._index == NO_GPU:
            return isinstance(message, Present)
        return isinstance(message, Readings) and message.index == self._index

    def _is_silence(self, message: Message, now_s: float) -> bool:
        # Waiting is waiting: a driver that hangs in a call about no GPU serves none.
        return isinstance(message, Heartbeat) and any(
            now_s - call.since_s >= SILENT_S for call in message.waiting
        )

    def _dismiss(self) -> None:
        if self._link is not None:
            self._link.hang_up()
            self._leaving.append(self._link)
            self._link = None
