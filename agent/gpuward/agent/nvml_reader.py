"""Read one GPU, lane by lane, turn by turn.

A lost GPU is asked again every few seconds: a reset brings it back under the same index.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOST_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a reader shares with the others: the binding, the way out, the ways to tell.

    ``send``: with the rest of the turn; ``flush``: what was sent until now, at once.
    """

    nvml: Any
    driver_major: int
    proc_root: Path
    send: Callable[[protocol.Message], None]
    flush: Callable[[], None]
    leave: Callable[[DriverGone], None]


@dataclass(slots=True)
class _Parts:
    """What is read of a GPU that has a handle, and who it last said it is."""

    device: Device
    holders: HolderLists
    slices: Slices
    who: protocol.Found


@dataclass(slots=True)
class _Pace:
    """When a lane's next turn is due, and how often it is made."""

    due_s: float
    period_s: float


class Reader:
    """Finds its GPU, reads what is due of it, and tells what it saw."""

    def __init__(self, index: int, around: Surroundings) -> None:
        self.name = f"gpu{index}"
        self.slot = Slot(index, around.nvml.NVMLError)
        # The first turn at once.
        self.due_s = 0.0
        self._index = index
        self._nvml = around.nvml
        self._driver_major = around.driver_major
        self._proc_root = around.proc_root
        self._send = around.send
        self._flush = around.flush
        self._leave = around.leave
        self._gpu: _Parts | None = None
        self._lanes = {lane: _Pace(0.0, lane.period_s) for lane in Lane}
        # Of each lane's last turn: a cheap lane's turn does not hide a slow call of another.
        self._slowest_s = dict.fromkeys(Lane, 0.0)

    def turn(self) -> None:
        """Read what is due; find the GPU first where it is not known, or was lost."""
        self.slot.take_over()
        is_new = self._gpu is None
        try:
            gpu = self._gpu or self._find()
            for lane, pace in self._lanes.items():
                if pace.due_s <= time.monotonic():
                    self._read(gpu, lane, pace)
                    if is_new:
                        # A first picture of the node waits for the first lane of each GPU.
                        self._flush()
            self.due_s = min(pace.due_s for pace in self._lanes.values())
        except DeviceLost as error:
            self._send(protocol.Trouble(self._index, error.code, str(error)))
            self._let_go()
            self.due_s = next_due_s(time.monotonic(), LOST_RETRY_S)
        except DriverGone as error:
            self._leave(error)

    def _find(self) -> _Parts:
        handle = self._get("nvmlDeviceGetHandleByIndex", self._index)
        who = self._identity(handle)
        slices = Slices(self._nvml, handle, self.slot)
        slices.find()
        self._gpu = _Parts(
            Device(self._nvml, handle, self.slot, self._driver_major),
            HolderLists(self._nvml, handle, self.slot, self._proc_root),
            slices,
            msgspec.structs.replace(who, mig=slices.devices),
        )
        self._lanes = {lane: _Pace(0.0, lane.period_s) for lane in Lane}
        self._send(self._gpu.who)
        # The rest of its first turn may hang, and then it has to be known whose that is.
        self._flush()
        return self._gpu

    def _let_go(self) -> None:
        if self._gpu is not None:
            self._gpu.device.close()
            self._gpu.slices.close()
            self._gpu = None

    def _read(self, gpu: _Parts, lane: Lane, pace: _Pace) -> None:
        spent_s = self.slot.spent_s
        self._turn(gpu, lane)
        self._tell_changes(gpu, lane)
        pace.period_s = next_period_s(lane, pace.period_s, self.slot.spent_s - spent_s)
        pace.due_s = next_due_s(time.monotonic(), pace.period_s)

    def _turn(self, gpu: _Parts, lane: Lane) -> None:
        """Make the lane's calls and tell what they said."""
        self.slot.slowest_s = 0.0
        if lane is Lane.MEDIUM and (holders := gpu.holders.read()) is not None:
            self._send(protocol.Holders(self._index, time.monotonic(), holders))
        values = gpu.device.read(lane)
        of_slices: dict[str, dict[str, float]] = {}
        if lane is Lane.FAST:
            values |= gpu.device.read_activity()
            of_slices = gpu.slices.read()
        if lane is Lane.SLOW:
            gpu.slices.find()
        self._slowest_s[lane] = self.slot.slowest_s
        values["gpu_nvml_call_seconds"] = max(self._slowest_s.values())
        for uuid, found in (("", values), *of_slices.items()):
            self._send(protocol.readings(self._index, time.monotonic(), found, uuid))

    def _tell_changes(self, gpu: _Parts, lane: Lane) -> None:
        now = msgspec.structs.replace(
            gpu.who,
            unsupported=gpu.device.unsupported(),
            denied=tuple(sorted(self.slot.denied)),
            mig=gpu.slices.devices,
        )
        # Also now and then when nothing changed: the message may have been dropped.
        if lane is Lane.SLOW or now != gpu.who:
            self._send(now)
        gpu.who = now

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
