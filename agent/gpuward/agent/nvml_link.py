"""The parent's end of an NVML child: start it, hear it, ask it to leave, look at it from outside.

Nothing here blocks.  A child is asked to leave by hanging up; a signal comes only when that did
not help, because a process killed inside the driver has been seen to take the GPU with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.process_identity import parse_stat
from gpuward.daemon import subprocesses

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# One drain's share of the event loop; what is left comes next time.
DRAIN_LIMIT = 512
# Of the modules nvidia and nvidia-uvm.
DRIVER_FUNCTIONS = ("nvidia_", "nv_", "_nv", "uvm_", "rm_")


@dataclass(frozen=True, slots=True)
class Blocked:
    """State letter and kernel wait channel of a thread; empty where /proc does not say."""

    state: str = ""
    wait_channel: str = ""
    # The kernel's own word that the driver's code is what it waits in.
    in_driver: bool = False


class Link:
    """A running child."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None, started_s: float
    ) -> None:
        """Start ``command``; raises ``OSError``."""
        self.started_s = started_s
        self.garbled = 0
        ours, theirs = protocol.pair()
        try:
            self._child = subprocesses.start(
                [*command, "--socket", str(theirs.fileno())],
                env=env,
                pass_fds=(theirs.fileno(),),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours

    @property
    def pid(self) -> int:
        return self._child.pid

    def exit_status(self) -> int | None:
        """Return how the child ended, ``None`` while it has not."""
        return self._child.poll()

    def receive(self) -> list[protocol.Message]:
        """Return what the child has said since; empty when nothing, or when it has ended."""
        messages: list[protocol.Message] = []
        for _ in range(DRAIN_LIMIT):
            try:
                data = self._socket.recv(protocol.MESSAGE_LIMIT_BYTES)
            except (BlockingIOError, ConnectionError):
                break
            if not data:
                break
            try:
                messages += protocol.decode(data)
            except msgspec.MsgspecError:
                self.garbled += 1
        return messages

    def hang_up(self) -> None:
        """Ask the child to leave; it does so within a second unless the driver holds it."""
        self._socket.close()

    def signal(self, number: signal.Signals) -> None:
        subprocesses.kill_group(self.pid, number)


def blocked(proc_root: Path, pid: int, thread_id: int) -> Blocked:
    """Return where a thread of the child stands in the kernel."""
    folder = proc_root / str(pid) / "task" / str(thread_id)
    try:
        state = parse_stat((folder / "stat").read_text(errors="replace")).state
        channel = (folder / "wchan").read_text(errors="replace").strip()
    except (OSError, ValueError):
        return Blocked()
    # The stack is for CAP_SYS_ADMIN, and names the module of each frame.
    try:
        frames = (folder / "stack").read_text(errors="replace")
    except OSError:
        frames = ""
    in_driver = "[nvidia" in frames or channel.startswith(DRIVER_FUNCTIONS)
    # The kernel writes 0 for a thread that does not wait, or to a reader it does not trust.
    return Blocked(state, "" if channel == "0" else channel[:64], in_driver)
