"""Hear of XIDs from NVML: for a node whose kernel log cannot be read, and to check the log.

NVML says which GPU and which code, but neither the process nor the rest of the line.  A GPU enters
the event set in a thread of its own, which ends when it has: a sick GPU whose call hangs keeps only
itself out, and nobody else is kept waiting.
"""

from __future__ import annotations

import ctypes
import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.nvml_lanes import next_due_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

XID_CRITICAL_ERROR = 0x8
TIMEOUT = 10
# Looked for without waiting in NVML: a call that waits can neither be ended nor told from one that
# hangs.  The parent listens once a second.
LOOK_EVERY_S = 1.0
# GPUs that are not in the set yet, or have left it by being lost, are asked again this often.
ENTER_EVERY_S = 30.0
FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 30.0
# A storm may not keep those who wait for their turn.
EVENTS_A_LOOK = 1_000


class XidEvents:
    """Sends an ``XidReported`` for each XID; rests where NVML has no events."""

    name = "xid events"

    def __init__(
        self, nvml: Any, indices: Iterable[int], send: Callable[[protocol.Message], None]
    ) -> None:
        self.due_s = 0.0
        self._nvml = nvml
        self._indices = tuple(indices)
        self._send = send
        self._events: Any = None
        self._enter_s = 0.0
        self._back_off_s = FIRST_BACK_OFF_S
        # When last nothing was waiting: NVML does not say when an event was.
        self._none_s = time.monotonic()
        # GPUs in the set, by the address of their handle; those whose entry hangs or is refused.
        self._index_of: dict[int, int] = {}
        self._entering: dict[int, threading.Thread] = {}
        self._without: set[int] = set()
        # Some GPU may have left the set; to enter twice does no harm.
        self._all_again = False

    def turn(self) -> None:
        """Look for events, and now and then for GPUs that are not in the set."""
        now_s = time.monotonic()
        try:
            if self._events is None:
                self._events = self._nvml.nvmlEventSetCreate()
        except self._nvml.NVMLError:
            # A driver without events; the kernel's log remains.
            self.due_s = inf
            return
        if now_s >= self._enter_s:
            self._enter_all(self._events)
            self._enter_s = now_s + ENTER_EVERY_S
        try:
            self._look(self._events)
        except self._nvml.NVMLError:
            # A GPU is lost, say, and NVML says so at each look; the others are still heard.
            self._all_again = True
            pause_s = self._back_off_s
            self._back_off_s = min(2 * self._back_off_s, LONGEST_BACK_OFF_S)
        else:
            pause_s, self._back_off_s = LOOK_EVERY_S, FIRST_BACK_OFF_S
        self.due_s = next_due_s(time.monotonic(), pause_s)

    def _look(self, events: Any) -> None:
        """Send what has happened; raises ``NVMLError`` but for a time-out, which is nothing."""
        for _ in range(EVENTS_A_LOOK):
            asked_s = time.monotonic()
            try:
                event = self._nvml.nvmlEventSetWait_v2(events, 0)
            except self._nvml.NVMLError as error:
                if getattr(error, "value", 0) == TIMEOUT:
                    self._none_s = asked_s
                    return
                raise
            index = self._index_of.get(_address(event.device))
            if event.eventType == XID_CRITICAL_ERROR and index is not None:
                at_s, code = time.monotonic(), int(event.eventData)
                self._send(protocol.XidReported(index, at_s, code, self._none_s))

    def _enter_all(self, events: Any) -> None:
        entered = set() if self._all_again else set(self._index_of.values())
        self._all_again = False
        missing = set(self._indices) - entered - self._without
        for index in sorted(missing):
            thread = self._entering.get(index)
            if thread is None or not thread.is_alive():
                self._entering[index] = threading.Thread(
                    target=self._enter, args=(index, events), name=f"gpu{index} events", daemon=True
                )
                self._entering[index].start()

    def _enter(self, index: int, events: Any) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            if not nvml.nvmlDeviceGetSupportedEventTypes(handle) & XID_CRITICAL_ERROR:
                self._without.add(index)
                return
            nvml.nvmlDeviceRegisterEvents(handle, XID_CRITICAL_ERROR, events)
        except nvml.NVMLError:
            # Lost, or in a reset: asked again later.
            return
        self._index_of[_address(handle)] = index


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
