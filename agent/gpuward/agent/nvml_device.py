"""Make the NVML calls of one GPU: which it supports, what they answer, what is being called.

A thread that hangs in the driver can be neither stopped nor asked, so what it calls, and since
when, stands in its ``Slot`` for the child's main thread to report.
"""

from __future__ import annotations

import threading
import time
from types import ModuleType
from typing import Any

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.nvml_call import Call, Lane
from gpuward.agent.nvml_calls import CALLS
from gpuward.agent.nvml_conditions import (
    NO_PERMISSION,
    UNKNOWN,
    Unavailable,
    Unsupported,
    condition,
)
from gpuward.agent.nvml_fields import SIGNALS_OF_FIELDS, FieldValues
from gpuward.agent.nvml_gpm import SIGNALS_OF_GPM, Gpm

ALL_SIGNALS = (
    frozenset(signal for call in CALLS for signal in call.signals)
    | SIGNALS_OF_FIELDS
    | SIGNALS_OF_GPM
)


class Slot:
    """What is being called of a GPU; written by the thread that calls, read by another."""

    def __init__(self, index: int, nvml_error: type[Exception]) -> None:
        self.index = index
        self._nvml_error = nvml_error
        self._thread_id = threading.get_native_id()
        # One tuple, so that a reader never sees half of a change.
        self._current: tuple[str, float] | None = None
        self.spent_s = 0.0
        # Of the calls since it was set to zero.
        self.slowest_s = 0.0
        # Names of the calls that are not for this user.
        self.denied: set[str] = set()

    def take_over(self) -> None:
        """Note that it is this thread that calls from now on."""
        self._thread_id = threading.get_native_id()

    def calling(self, name: str, *, is_driver: bool = True) -> _Calling:
        """Mark ``name`` as being called inside the block, and translate what NVML raises there.

        ``is_driver``: count its time as the driver's.
        """
        return _Calling(self, name, is_driver)

    def begin(self, name: str) -> float:
        """Note that ``name`` is called from now on, by this thread; returns the time."""
        now_s = time.monotonic()
        self._current = (name, now_s)
        return now_s

    def end(self, since_s: float, *, is_driver: bool) -> None:
        """Note that nothing is called any more."""
        self._current = None
        if is_driver:
            took_s = time.monotonic() - since_s
            self.spent_s += took_s
            self.slowest_s = max(self.slowest_s, took_s)

    def translate(self, name: str, error: BaseException) -> None:
        """Raise what ``error`` of the call ``name`` means; return where it is not NVML's."""
        if isinstance(error, self._nvml_error):
            code = getattr(error, "value", UNKNOWN)
            if code == NO_PERMISSION:
                self.denied.add(name)
            raise condition(code, f"{name}: {error}") from error
        # An older binding lacks newer functions; the rest of what is wrong is ours.
        if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
            raise Unsupported(f"{name}: the installed nvidia-ml-py does not know it") from error

    def waiting(self) -> protocol.Waiting | None:
        current = self._current
        if current is None:
            return None
        return protocol.Waiting(self.index, current[0], current[1], self._thread_id)


class _Calling:
    """A call of a slot, as a block: a generator would cost as much as the calls themselves."""

    __slots__ = ("_is_driver", "_name", "_since_s", "_slot")

    def __init__(self, slot: Slot, name: str, is_driver: bool) -> None:  # noqa: FBT001 - as above
        self._slot = slot
        self._name = name
        self._is_driver = is_driver

    def __enter__(self) -> None:
        self._since_s = self._slot.begin(self._name)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._slot.end(self._since_s, is_driver=self._is_driver)
        if error is not None:
            self._slot.translate(self._name, error)


def _alternatives(lane: Lane) -> list[list[Call]]:
    """Return the lane's calls in the table's order, those that give the same signals together."""
    found: list[list[Call]] = []
    for call in CALLS:
        if call.lane is lane:
            same = (calls for calls in found if calls[0].signals.keys() & call.signals.keys())
            calls = next(same, None)
            if calls is None:
                found.append([call])
            else:
                calls.append(call)
    return found


class Device:
    """A GPU with a handle: knows which calls it supports."""

    def __init__(self, nvml: Any, handle: Any, slot: Slot, driver_major: int) -> None:
        self._nvml = nvml
        self._handle = handle
        self._slot = slot
        # Of each answer the calls that may give it, best first.
        self._calls = {lane: _alternatives(lane) for lane in Lane}
        self._fields = FieldValues(driver_major)
        self._gpm: Gpm | None = None
        self._may_have_gpm = True
        # What ``unsupported`` found out, and how much was left when it did.
        self._unsupported: tuple[str, ...] = ()
        self._left: tuple[int, int, bool] | None = None

    def read(self, lane: Lane) -> dict[str, float]:
        """Make the lane's calls; forget those that turn out unsupported."""
        values: dict[str, float] = {}
        for calls in self._calls[lane]:
            while calls:
                try:
                    with self._slot.calling(calls[0].name):
                        values |= calls[0].make(self._nvml, self._handle)
                except Unsupported:
                    calls.pop(0)
                    continue
                except Unavailable:
                    # An alternative is for a GPU that lacks the call, not for one that is busy.
                    pass
                break
        values |= self._read_fields(lane)
        return values

    def _read_fields(self, lane: Lane) -> dict[str, float]:
        try:
            with self._slot.calling("nvmlDeviceGetFieldValues"):
                return self._fields.read(self._nvml, self._handle, lane)
        except Unsupported:
            self._fields.forget(lane)
        except Unavailable:
            pass
        return {}

    def read_activity(self) -> dict[str, float]:
        """Return what GPM measured since the last turn; nothing where there is none."""
        try:
            with self._slot.calling("nvmlGpmSampleGet"):
                if self._gpm is None and self._may_have_gpm:
                    found = Gpm(self._nvml, self._handle)
                    self._may_have_gpm = found.is_supported()
                    self._gpm = found if self._may_have_gpm else None
                return {} if self._gpm is None else self._gpm.read()
        except Unsupported:
            self.close()
            self._may_have_gpm = False
        except Unavailable:
            pass
        return {}

    def unsupported(self) -> tuple[str, ...]:
        """Return the signals that no remaining call gives."""
        # What may be asked only ever shrinks: while there is as much of it, it is the same.
        calls = sum(len(calls) for lane in self._calls.values() for calls in lane)
        left = (calls, len(self._fields), self._may_have_gpm)
        if left != self._left:
            self._left, self._unsupported = left, self._not_given()
        return self._unsupported

    def _not_given(self) -> tuple[str, ...]:
        given = {
            signal
            for lane in self._calls.values()
            for calls in lane
            for call in calls
            for signal in call.signals
        }
        given |= self._fields.supported()
        if self._may_have_gpm:
            given |= SIGNALS_OF_GPM
        return tuple(sorted(ALL_SIGNALS - given))

    def close(self) -> None:
        """Give back what the driver holds for us."""
        if self._gpm is not None:
            self._gpm.close()
            self._gpm = None
