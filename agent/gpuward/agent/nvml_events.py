"""Hear of the driver that it wants to leave its GPUs, before it does.

A monitor that holds a GPU open keeps the driver from being unloaded (NVIDIA/dcgm-exporter#706), so
an upgrade fails until somebody finds out who it is.  From driver 575 on NVML announces it.
"""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

UNBIND = 1
# Looked for without waiting in NVML: a call that waits can neither be ended nor told from one that
# hangs.  Well within the second in which we must be gone.
LOOK_EVERY_S = 0.5
ROOM = 8


class DriverEvents:
    """Calls ``leave`` when the driver announces that it leaves; rests where NVML cannot say."""

    name = "driver events"

    def __init__(self, nvml: Any, leave: Callable[[], None]) -> None:
        self.due_s = 0.0
        self._nvml = nvml
        self._leave = leave
        self._events: Any = None
        # Made once, and filled by each look.
        self._room: Any = None

    def turn(self) -> None:
        """Look whether it is announced."""
        if self._events is None:
            self.due_s = inf
            return
        # At each full and half second.
        self.due_s = (time.monotonic() // LOOK_EVERY_S + 1) * LOOK_EVERY_S
        if self._is_announced():
            self._leave()

    def register(self) -> None:
        """Ask to be told; what is announced before that is not heard of."""
        nvml = self._nvml
        if not hasattr(nvml, "nvmlSystemEventSetCreate"):
            return
        try:
            events = nvml.nvmlSystemEventSetCreate(nvml.nvmlSystemEventSetCreateRequest_v1)
            nvml.nvmlSystemRegisterEvents(nvml.nvmlSystemRegisterEventRequest_v1, UNBIND, events)
        except nvml.NVMLError:
            # An older driver has no such events.
            return
        self._events, self._room = events, (nvml.c_nvmlSystemEventData_v1_t * ROOM)()

    def _is_announced(self) -> bool:
        nvml = self._nvml
        try:
            found = nvml.nvmlSystemEventSetWait(
                nvml.nvmlSystemEventSetWaitRequest_v1, self._events, 0, self._room, ROOM
            )
        except nvml.NVMLError:
            # Nothing yet; or trouble, of which every GPU's reader hears too.
            return False
        return any(event["eventType"] & UNBIND for event in found)
