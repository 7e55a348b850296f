"""Read one GPU in a thread of its own, lane by lane, so that a sick GPU stops nobody else.

A lost GPU is asked again every few seconds: a reset brings it back under the same index.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.nvml_call import Lane
from gpuward.agent.nvml_conditions import DeviceLost, DriverGone, Unavailable, Unsupported
from gpuward.agent.nvml_device import Device, Slot
from gpuward.agent.nvml_holders import HolderLists
from gpuward.agent.nvml_lanes import next_due_s, next_period_s
from gpuward.agent.nvml_mig import Slices
from gpuward.agent.nvml_place import Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOST_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a reader shares with the others: the binding, the way out, the way to tell."""

    nvml: Any
    driver_major: int
    proc_root: Path
    stopping: threading.Event
    send: Callable[[protocol.Message], None]
    leave: Callable[[DriverGone], None]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is read of a GPU that has a handle."""

    device: Device
    holders: HolderLists
    slices: Slices


class Reader(threading.Thread):
    """Finds its GPU, reads it lane by lane, and tells what it saw until told to stop."""

    def __init__(self, index: int, around: Surroundings) -> None:
        super().__init__(name=f"gpu{index}", daemon=True)
        self.slot = Slot(index, around.nvml.NVMLError)
        self._index = index
        self._nvml = around.nvml
        self._driver_major = around.driver_major
        self._proc_root = around.proc_root
        self._stopping = around.stopping
        self.place = Place(index, around.stopping)
        self._send = around.send
        self._leave = around.leave
        # Of each lane's last turn: a cheap lane's turn does not hide a slow call of another.
        self._slowest_s = dict.fromkeys(Lane, 0.0)

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read_until_lost()
            except DeviceLost as error:
                self._send(protocol.Trouble(self._index, error.code, str(error)))
                self._stopping.wait(LOST_RETRY_S)
            except DriverGone as error:
                self._leave(error)

    def _read_until_lost(self) -> None:
        handle = self._get("nvmlDeviceGetHandleByIndex", self._index)
        gpu = _Parts(
            Device(self._nvml, handle, self.slot, self._driver_major),
            HolderLists(self._nvml, handle, self.slot, self._proc_root),
            Slices(self._nvml, handle, self.slot),
        )
        try:
            self._read_lanes(gpu, self._identity(handle))
        finally:
            gpu.device.close()
            gpu.slices.close()

    def _read_lanes(self, gpu: _Parts, who: protocol.Found) -> None:
        gpu.slices.find()
        who = msgspec.structs.replace(who, mig=gpu.slices.devices)
        self._send(who)
        # The first of each at once.
        due_s = dict.fromkeys(Lane, 0.0)
        period_s = {lane: lane.period_s for lane in Lane}
        while True:
            lane = min(due_s, key=due_s.__getitem__)
            self.place.wait(due_s[lane])
            if self._stopping.is_set():
                return
            spent_s = self.slot.spent_s
            self._turn(gpu, lane)
            who = self._tell_changes(gpu, lane, who)
            period_s[lane] = next_period_s(lane, period_s[lane], self.slot.spent_s - spent_s)
            due_s[lane] = next_due_s(time.monotonic(), period_s[lane])

    def _turn(self, gpu: _Parts, lane: Lane) -> None:
        """Make the lane's calls and tell what they said."""
        self.slot.slowest_s = 0.0
        if lane is Lane.MEDIUM and (holders := gpu.holders.read()) is not None:
            self._send(protocol.Holders(self._index, time.monotonic(), holders))
        values, parts = gpu.device.read(lane), {}
        if lane is Lane.FAST:
            values |= gpu.device.read_activity()
            parts = gpu.slices.read()
        if lane is Lane.SLOW:
            gpu.slices.find()
        self._slowest_s[lane] = self.slot.slowest_s
        values["gpu_nvml_call_seconds"] = max(self._slowest_s.values())
        self._send(protocol.Readings(self._index, time.monotonic(), values, parts))

    def _tell_changes(self, gpu: _Parts, lane: Lane, who: protocol.Found) -> protocol.Found:
        now = msgspec.structs.replace(
            who,
            unsupported=gpu.device.unsupported(),
            denied=tuple(sorted(self.slot.denied)),
            mig=gpu.slices.devices,
        )
        # Also now and then when nothing changed: the message may have been dropped.
        if lane is Lane.SLOW or now != who:
            self._send(now)
        return now

    def _identity(self, handle: Any) -> protocol.Found:
        pci = self._get("nvmlDeviceGetPciInfo", handle)
        return protocol.Found(
            index=self._index,
            uuid=_text(self._get("nvmlDeviceGetUUID", handle)),
            name=_text(self._get("nvmlDeviceGetName", handle)),
            pci_bus_id=_text(pci.busId),
            serial=self._serial(handle),
        )

    def _serial(self, handle: Any) -> str:
        try:
            with self.slot.calling("nvmlDeviceGetSerial"):
                return _text(self._nvml.nvmlDeviceGetSerial(handle))
        except (Unsupported, Unavailable):
            return ""

    def _get(self, name: str, *arguments: Any) -> Any:
        """Call what a GPU without which is no GPU; any failure means that it is lost."""
        try:
            with self.slot.calling(name):
                return getattr(self._nvml, name)(*arguments)
        except (Unsupported, Unavailable) as error:
            raise DeviceLost(0, str(error)) from error


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
