"""The NVML child: the only process of the agent that calls the driver.

A driver call that blocks never returns, and its thread cannot be stopped; a process can at least be
left behind.  So NVML lives here, in a program of its own (started, never forked: NVML's state does
not survive a fork), with none of the calls on the main thread.  That one sends what others have
read, tells the parent that it lives and which calls are unanswered, and leaves when the parent
hangs up.  A GPU that does not answer in time gets a thread of its own: see ``nvml_row``.

    python -P -m gpuward.agent.nvml_child --socket FD [--proc-root /proc] [--only INDEX]

Ends with status 75 (EX_TEMPFAIL) when the driver is missing or was replaced: the library that is
loaded cannot serve another driver, so only a new process can look again.  Ends with it too, within
a second, when the driver announces that it leaves: the end of the process closes what it holds
open, without a call that might wait.  With ``--only`` it reads one GPU alone, or none (-1),
and so tells whether the driver answers anybody.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.garbage import Garbage
from gpuward.agent.nvml_conditions import DeviceLost, DriverGone, Unavailable, Unsupported
from gpuward.agent.nvml_device import Slot
from gpuward.agent.nvml_events import DriverEvents
from gpuward.agent.nvml_outbox import Outbox
from gpuward.agent.nvml_reader import Reader, Surroundings
from gpuward.agent.nvml_row import Row
from gpuward.agent.nvml_xids import XidEvents

if TYPE_CHECKING:
    from collections.abc import Sequence

EX_SOFTWARE = 70
EX_TEMPFAIL = 75
LIBRARY_NOT_FOUND = 12
# A call shorter than this is no news.
UNANSWERED_S = 0.3
# GPUs are due at full seconds, what the driver announces at half ones too.
HALF_S = 0.5


class Child:
    """Starts a reader for each GPU, has them read once a second, and keeps the parent informed."""

    def __init__(self, link: socket.socket, proc_root: Path, only: int | None = None) -> None:
        self._link = link
        self._proc_root = proc_root
        self._only = only
        self._stopping = threading.Event()
        self._status = 0
        self._due_s = 0.0
        self._outbox = Outbox(link)
        self._row = Row(self._stopping, self._outbox.flush)
        self._slots: list[Slot] = []

    def run(self) -> int:
        """Return the exit status once the parent has hung up or the driver is gone."""
        threading.excepthook = self._fail
        threading.Thread(target=self._start_readers, name="start", daemon=True).start()
        garbage = Garbage(time.monotonic())
        told_second = -1.0
        while True:
            self._row.read()
            # Between two seconds there is nothing to tell, but that the driver leaves.
            if (second := time.monotonic() // 1.0) > told_second:
                told_second = second
                self._send(self._heartbeat())
                garbage.collect_if_due(time.monotonic())
            if self._hung_up():
                break
        self._stopping.set()
        return self._status

    def _hung_up(self) -> bool:
        """Wait for the next full or half second, at which somebody is due, or the parent's end."""
        left_s = max(0.0, self._due_s - time.monotonic())
        readable, _, _ = select.select([self._link], [], [], left_s)
        # Of this moment, not of when all is read: that may take until after the next half second.
        self._due_s = (time.monotonic() // HALF_S + 1) * HALF_S
        # The parent never says anything: to be readable is to have ended.
        return bool(readable)

    def _heartbeat(self) -> protocol.Heartbeat:
        now_s = time.monotonic()
        waiting = [found for slot in list(self._slots) if (found := slot.waiting()) is not None]
        return protocol.Heartbeat(
            now_s,
            tuple(call for call in waiting if now_s - call.since_s > UNANSWERED_S),
            self._outbox.dropped,
        )

    def _start_readers(self) -> None:
        try:
            import pynvml
        except ImportError:
            advice = "nvidia-ml-py is not installed: pip install 'gpuward[agent]'"
            self._leave(DriverGone(LIBRARY_NOT_FOUND, advice))
            return
        slot = Slot(-1, pynvml.NVMLError)
        self._slots.append(slot)
        try:
            present = self._initialise(pynvml, slot)
        except DriverGone as error:
            self._leave(error)
            return
        except (DeviceLost, Unavailable, Unsupported) as error:
            self._leave(DriverGone(0, str(error)))
            return
        driver_events = DriverEvents(pynvml, self._leave_to_the_driver)
        with slot.calling("nvmlSystemRegisterEvents"):
            # Before anybody can see that we use this driver.
            driver_events.register()
        self._send(present)
        around = Surroundings(
            pynvml,
            _major(present.driver_version),
            self._proc_root,
            send=self._outbox.put,
            flush=self._outbox.flush,
            leave=self._leave,
        )
        wanted = self._wanted(present.gpus)
        readers = [Reader(index, around) for index in wanted]
        self._slots += [reader.slot for reader in readers]
        self._row.begin(driver_events)
        self._row.begin(XidEvents(pynvml, wanted, self._outbox.put))
        for reader in readers:
            self._row.begin(reader)

    def _wanted(self, gpus: int) -> Sequence[int]:
        everyone = range(gpus)
        return [i for i in everyone if i == self._only] if self._only is not None else everyone

    def _initialise(self, nvml: Any, slot: Slot) -> protocol.Present:
        with slot.calling("nvmlInit"):
            nvml.nvmlInit()
        with slot.calling("nvmlSystemGetDriverVersion"):
            version = nvml.nvmlSystemGetDriverVersion()
        with slot.calling("nvmlDeviceGetCount"):
            return protocol.Present(str(version), nvml.nvmlDeviceGetCount())

    def _leave(self, reason: DriverGone) -> None:
        """End because the driver is gone; called from any thread."""
        self._send(protocol.Gone(reason.code, str(reason)))
        self._end(EX_TEMPFAIL)

    def _leave_to_the_driver(self) -> None:
        self._send(protocol.Leaving())
        self._end(EX_TEMPFAIL)

    def _fail(self, failure: threading.ExceptHookArgs) -> None:
        """End because a thread did: a GPU that nobody reads would only look quiet."""
        threading.__excepthook__(failure)
        self._end(EX_SOFTWARE)

    def _end(self, status: int) -> None:
        self._status = status
        self._stopping.set()
        # Wakes the main thread just as the parent's hanging up does.
        self._link.shutdown(socket.SHUT_RD)

    def _send(self, message: protocol.Message) -> None:
        self._outbox.put(message)
        self._outbox.flush()


def _major(driver_version: str) -> int:
    """Return the number before the first dot; 0, older than any, for what has none."""
    digits = driver_version.split(".", maxsplit=1)[0]
    return int(digits) if digits.isdecimal() else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the parent on the given descriptor; returns the exit status."""
    parser = argparse.ArgumentParser(prog="gpuward.agent.nvml_child")
    parser.add_argument("--socket", type=int, required=True, help="descriptor of the socket pair")
    parser.add_argument("--proc-root", type=Path, default=Path("/proc"))
    parser.add_argument(
        "--only", type=int, metavar="INDEX", help="of the one GPU to read; -1: none"
    )
    options = parser.parse_args(argv)
    link = socket.socket(fileno=options.socket)
    return Child(link, options.proc_root, options.only).run()


if __name__ == "__main__":
    # Without the interpreter's farewell: it would wait for what a hung driver call holds.
    os._exit(main())
