"""Make the NVML calls of one GPU: which it supports, what they answer, what is being called.

A thread that hangs in the driver can be neither stopped nor asked, so what it calls, and since
when, stands in its ``Slot`` for the child's main thread to report.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gpuward.agent import nvml_protocol as protocol
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.nvml_call import Lane

ALL_SIGNALS = (
    frozenset(signal for call in CALLS for signal in call.signals)
    | SIGNALS_OF_FIELDS
    | SIGNALS_OF_GPM
)


class Slot:
    """What a thread is calling; written by that thread, read by another."""

    def __init__(self, index: int, nvml_error: type[Exception]) -> None:
        self.index = index
        self._nvml_error = nvml_error
        self._thread_id = 0
        # One tuple, so that a reader never sees half of a change.
        self._current: tuple[str, float] | None = None
        self.spent_s = 0.0
        # Of the calls since it was set to zero.
        self.slowest_s = 0.0
        # Names of the calls that are not for this user.
        self.denied: set[str] = set()

    @contextmanager
    def calling(self, name: str, *, is_driver: bool = True) -> Iterator[None]:
        """Mark ``name`` as being called, and translate what NVML raises.

        ``is_driver``: count its time as the driver's.
        """
        self._thread_id = threading.get_native_id()
        started_s = time.monotonic()
        self._current = (name, started_s)
        try:
            yield
        except AttributeError as error:
            # An older binding lacks newer functions; the rest of what is wrong is ours.
            if not isinstance(error.obj, ModuleType):
                raise
            raise Unsupported(f"{name}: the installed nvidia-ml-py does not know it") from error
        except self._nvml_error as error:
            code = getattr(error, "value", UNKNOWN)
            if code == NO_PERMISSION:
                self.denied.add(name)
            raise condition(code, f"{name}: {error}") from error
        finally:
            self._current = None
            if is_driver:
                took_s = time.monotonic() - started_s
                self.spent_s += took_s
                self.slowest_s = max(self.slowest_s, took_s)

    def waiting(self) -> protocol.Waiting | None:
        current = self._current
        if current is None:
            return None
        return protocol.Waiting(self.index, current[0], current[1], self._thread_id)


class Device:
    """A GPU with a handle: knows which calls it supports."""

    def __init__(self, nvml: Any, handle: Any, slot: Slot, driver_major: int) -> None:
        self._nvml = nvml
        self._handle = handle
        self._slot = slot
        self._calls = list(CALLS)
        self._fields = FieldValues(driver_major)
        self._gpm: Gpm | None = None
        self._may_have_gpm = True

    def read(self, lane: Lane) -> dict[str, float]:
        """Make the lane's calls; forget those that turn out unsupported."""
        values: dict[str, float] = {}
        supported: set[str] = set()
        for call in [call for call in self._calls if call.lane is lane]:
            # An alternative is for a GPU that lacks the call, not for one that is busy.
            if not supported.isdisjoint(call.signals):
                continue
            try:
                with self._slot.calling(call.name):
                    values |= call.make(self._nvml, self._handle)
            except Unsupported:
                self._calls.remove(call)
                continue
            except Unavailable:
                pass
            supported.update(call.signals)
        return values | self._read_fields(lane)

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
        left = {signal for call in self._calls for signal in call.signals}
        left |= self._fields.supported()
        if self._may_have_gpm:
            left |= SIGNALS_OF_GPM
        return tuple(sorted(ALL_SIGNALS - left))

    def close(self) -> None:
        """Give back what the driver holds for us."""
        if self._gpm is not None:
            self._gpm.close()
            self._gpm = None
