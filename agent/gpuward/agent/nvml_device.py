"""Make the NVML calls of one GPU: which it supports, what they answer, what is being called.

A thread that hangs in the driver can be neither stopped nor asked, so what it calls, and since
when, stands in its ``Slot`` for the child's main thread to report.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.model import Process
from gpuward.agent.nvml_calls import CALLS, PROCESS_LISTS, Lane
from gpuward.agent.nvml_conditions import (
    UNKNOWN,
    FieldFailed,
    Unavailable,
    Unsupported,
    condition,
)
from gpuward.agent.process_identity import UNIDENTIFIED, identify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROCESS_LIMIT = 512


class Slot:
    """What a thread is calling; written by that thread, read by another."""

    def __init__(self, index: int, nvml_error: type[Exception]) -> None:
        self.index = index
        self._nvml_error = nvml_error
        self._thread_id = 0
        # One tuple, so that a reader never sees half of a change.
        self._current: tuple[str, float] | None = None
        self.spent_s = 0.0

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """Mark ``name`` as being called, and translate what NVML raises."""
        self._thread_id = threading.get_native_id()
        started_s = time.monotonic()
        self._current = (name, started_s)
        try:
            yield
        except FieldFailed as error:
            raise condition(error.code, f"{name}: field error {error.code}") from error
        except self._nvml_error as error:
            code = getattr(error, "value", UNKNOWN)
            raise condition(code, f"{name}: {error}") from error
        finally:
            self._current = None
            self.spent_s += time.monotonic() - started_s

    def waiting(self) -> protocol.Waiting | None:
        current = self._current
        if current is None:
            return None
        return protocol.Waiting(self.index, current[0], current[1], self._thread_id)


class Device:
    """A GPU with a handle: knows which calls it supports."""

    def __init__(self, nvml: Any, handle: Any, slot: Slot, proc_root: Path) -> None:
        self._nvml = nvml
        self._handle = handle
        self._slot = slot
        self._proc_root = proc_root
        self._calls = list(CALLS)
        self._lists = [list(names) for names in PROCESS_LISTS]

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
        return values

    def unsupported(self) -> tuple[str, ...]:
        """Return the signals that no remaining call gives."""
        left = {signal for call in self._calls for signal in call.signals}
        return tuple(sorted({signal for call in CALLS for signal in call.signals} - left))

    def holders(self) -> tuple[protocol.Holder, ...] | None:
        """Return the processes that hold memory; ``None`` when NVML cannot list them."""
        lists = [found for names in self._lists if (found := self._list(names)) is not None]
        if not lists:
            return None
        memory: dict[int, int | None] = {}
        for entry in [entry for found in lists for entry in found][:PROCESS_LIMIT]:
            # A process with compute and graphics contexts is in both lists with one total.
            memory[entry.pid] = max(
                (size for size in (memory.get(entry.pid), entry.usedGpuMemory) if size is not None),
                default=None,
            )
        return tuple(
            protocol.Holder(self._identify(pid), size) for pid, size in sorted(memory.items())
        )

    def _list(self, names: list[str]) -> list[Any] | None:
        while names:
            try:
                with self._slot.calling(names[0]):
                    return list(getattr(self._nvml, names[0])(self._handle))
            except Unsupported:
                names.pop(0)
            except Unavailable:
                break
        return None

    def _identify(self, pid: int) -> Process:
        spent_s = self._slot.spent_s
        with self._slot.calling("read /proc"):
            found = identify(pid, self._proc_root)
        # Time in /proc is not the driver's.
        self._slot.spent_s = spent_s
        # Gone since, or of a pid namespace that this one does not see.
        return found or Process(key=UNIDENTIFIED, pid=pid, start_ticks=0)
