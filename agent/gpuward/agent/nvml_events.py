"""Hear of the driver that it wants to leave its GPUs, before it does.

A monitor that holds a GPU open keeps the driver from being unloaded (NVIDIA/dcgm-exporter#706), so
an upgrade fails until somebody finds out who it is.  From driver 575 on NVML announces it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from gpuward.agent.nvml_place import until_look_s

if TYPE_CHECKING:
    from collections.abc import Callable

UNBIND = 1
# Looked for without waiting in NVML: a call that waits can neither be ended nor told from one that
# hangs.  Well within the second in which we must be gone.
LOOK_EVERY_S = 0.5
ROOM = 8


class DriverEvents(threading.Thread):
    """Calls ``leave`` once when the driver announces that it leaves; ends where NVML cannot say."""

    def __init__(self, nvml: Any, stopping: threading.Event, leave: Callable[[], None]) -> None:
        super().__init__(name="driver events", daemon=True)
        self._nvml = nvml
        self._stopping = stopping
        self._leave = leave

    def run(self) -> None:
        nvml = self._nvml
        if not hasattr(nvml, "nvmlSystemEventSetCreate"):
            return
        try:
            events = nvml.nvmlSystemEventSetCreate(nvml.nvmlSystemEventSetCreateRequest_v1)
            nvml.nvmlSystemRegisterEvents(nvml.nvmlSystemRegisterEventRequest_v1, UNBIND, events)
        except nvml.NVMLError:
            # An older driver has no such events.
            return
        while not self._stopping.wait(until_look_s(time.monotonic(), LOOK_EVERY_S)):
            if self._is_announced(events):
                self._leave()
                return

    def _is_announced(self, events: Any) -> bool:
        nvml = self._nvml
        room = (nvml.c_nvmlSystemEventData_v1_t * ROOM)()
        try:
            found = nvml.nvmlSystemEventSetWait(
                nvml.nvmlSystemEventSetWaitRequest_v1, events, 0, room, ROOM
            )
        except nvml.NVMLError:
            # Nothing yet; or trouble, of which every GPU's reader hears too.
            return False
        return any(event["eventType"] & UNBIND for event in found)
