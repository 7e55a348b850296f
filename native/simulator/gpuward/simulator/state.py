"""The simulated driver's state file, opened by whoever drives it or takes device memory in it.

Rows of processes and the event ring are written under a kernel lock on one byte of the file (an
open-file-description lock), which dies with its holder.  Memory in use is always the sum of the
rows of living processes, so a killed process gives its memory back without anybody's help.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuward.simulator.layout import (
    GPU_U64,
    LOCK_EVENTS,
    LOCK_GPU,
    MAX_EVENTS,
    MAX_GPUS,
    STATE_MAGIC,
    STATE_VARIABLE,
    STATE_VERSION,
    EventKind,
    GpuRow,
    ProcessKind,
    ProcessRow,
    StateRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid


VOLATILE_COUNTERS = tuple(name for name in GPU_U64 if name.startswith("ecc_volatile_"))


class StateError(Exception):
    """The state file cannot be used; the message is one line and names it."""


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A living process that holds memory of one simulated GPU."""

    pid: int
    memory_bytes: int
    kind: ProcessKind


class State:
    """The mapped file; ``row`` is its raw layout, for the player and for tests.

    Safe for several threads and processes.  Not shared over ``fork``: open it again in the child.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.path = path
        self._descriptor = descriptor
        self._thread_lock = threading.Lock()
        self.row = StateRow.from_buffer(mmap.mmap(descriptor, ctypes.sizeof(StateRow)))

    @classmethod
    def create(cls, path: Path, gpu_count: int) -> State:
        """Make the file with ``gpu_count`` blank GPUs and a loaded driver of no version."""
        if not 1 <= gpu_count <= MAX_GPUS:
            raise StateError(f"{path}: 1 to {MAX_GPUS} GPUs, not {gpu_count}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.ftruncate(descriptor, ctypes.sizeof(StateRow))
        state = cls(descriptor, path)
        state.row.version = STATE_VERSION
        state.row.size_bytes = ctypes.sizeof(StateRow)
        state.row.gpu_count = gpu_count
        state.row.driver_loaded = 1
        # Last: a reader that sees the magic sees a complete header.
        state.row.magic = STATE_MAGIC
        return state

    @classmethod
    def open(cls, path: Path | None = None) -> State:
        """Open an existing file, by default the one that ``GPUWARD_SIM_STATE`` names."""
        if path is None:
            if STATE_VARIABLE not in os.environ:
                raise StateError(f"{STATE_VARIABLE} is not set: run under `gpuward simulate`")
            path = Path(os.environ[STATE_VARIABLE])
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from error
        if os.fstat(descriptor).st_size != ctypes.sizeof(StateRow):
            os.close(descriptor)
            raise StateError(f"{path}: not a state file of this version of gpuward-simulator")
        state = cls(descriptor, path)
        if (state.row.magic, state.row.version) != (STATE_MAGIC, STATE_VERSION):
            state.close()
            raise StateError(f"{path}: not a state file of this version of gpuward-simulator")
        return state

    def close(self) -> None:
        """Close the descriptor; the mapping lasts as long as ``row`` is referred to."""
        os.close(self._descriptor)

    def gpu(self, gpu_index: int) -> GpuRow:
        """Return the raw row of GPU ``gpu_index``; raises ``IndexError`` beyond the last."""
        if not 0 <= gpu_index < self.row.gpu_count:
            raise IndexError(f"GPU {gpu_index} of {self.row.gpu_count}")
        row: GpuRow = self.row.gpus[gpu_index]
        return row

    def take(
        self,
        gpu_index: int,
        pid: int,
        size_bytes: int,
        kind: ProcessKind = ProcessKind.COMPUTE,
        *,
        mig_device: int | None = None,
    ) -> bool:
        """Give ``pid`` ``size_bytes`` more of the GPU; False when so much is not free.

        Size 0 makes the process visible.  ``mig_device`` counts from 1; 0 is the whole GPU, None
        where the process is already.  Raises ``ProcessLookupError`` when it is not alive.
        """
        start_ticks = process_start_ticks(pid)
        if start_ticks is None:
            raise ProcessLookupError(f"process {pid} is not alive")
        gpu = self.gpu(gpu_index)
        with self._locked(LOCK_GPU + gpu_index):
            if size_bytes > self.free_bytes(gpu_index):
                return False
            row = _claim_row(gpu, pid, start_ticks, kind)
            if row is None:
                return False
            if mig_device is not None:
                row.mig_device = mig_device
            row.memory_bytes += size_bytes
        return True

    def give_back(self, gpu_index: int, pid: int, size_bytes: int) -> None:
        """Return memory of ``pid``; it never falls below zero, and the process stays visible."""
        gpu = self.gpu(gpu_index)
        with self._locked(LOCK_GPU + gpu_index):
            for row in gpu.processes:
                if row.pid == pid:
                    row.memory_bytes = max(0, row.memory_bytes - size_bytes)

    def set_utilization(
        self, gpu_index: int, pid: int, *, sm_percent: int, memory_percent: int = 0
    ) -> None:
        """Set what NVML says of how busy ``pid``, already on the GPU, keeps it."""
        with self._locked(LOCK_GPU + gpu_index):
            for row in self.gpu(gpu_index).processes:
                if row.pid == pid:
                    row.sm_percent, row.memory_percent = sm_percent, memory_percent

    def forget(self, pid: int) -> None:
        """Drop ``pid`` from every GPU, as its exit does."""
        for gpu_index in range(self.row.gpu_count):
            with self._locked(LOCK_GPU + gpu_index):
                for row in self.gpu(gpu_index).processes:
                    if row.pid == pid:
                        row.pid = 0
                        row.memory_bytes = 0

    def used_bytes(self, gpu_index: int) -> int:
        """Return what the driver and living processes use; without the reserved part."""
        used: int = self.gpu(gpu_index).memory_driver_bytes
        return used + sum(process.memory_bytes for process in self.processes(gpu_index))

    def free_bytes(self, gpu_index: int) -> int:
        """Return total - reserved - used; never negative."""
        gpu = self.gpu(gpu_index)
        usable: int = gpu.memory_total_bytes - gpu.memory_reserved_bytes
        return max(0, usable - self.used_bytes(gpu_index))

    def processes(self, gpu_index: int) -> list[DeviceProcess]:
        """Return the living processes of a GPU, in row order."""
        return [
            DeviceProcess(row.pid, row.memory_bytes, ProcessKind(row.kind))
            for row in self.gpu(gpu_index).processes
            if _is_alive(row)
        ]

    def add_event(self, gpu_index: int, kind: EventKind, data: int) -> None:
        """Append to the event ring; the oldest event falls out."""
        with self._locked(LOCK_EVENTS):
            count: int = self.row.event_count
            event = self.row.events[count % MAX_EVENTS]
            event.sequence = 0
            event.kind, event.data, event.gpu_index = int(kind), data, gpu_index
            event.sequence = count + 1
            self.row.event_count = count + 1

    def announce_driver(self, *, leaving: bool) -> None:
        """Tell who listens for system events that the driver is to leave its GPUs, or is back."""
        if leaving:
            self.row.unbind_count += 1
        else:
            self.row.bind_count += 1

    def unload_driver(self) -> None:
        """Unload the kernel module: every process on every GPU is gone from its view."""
        self.row.driver_loaded = 0
        for gpu in self.row.gpus[: self.row.gpu_count]:
            for row in gpu.processes:
                row.pid = 0
                row.memory_bytes = 0

    def load_driver(self, version: str, library_version: str | None = None) -> None:
        """Load the module as ``version``; volatile counters restart.

        ``library_version``: of the user-space library on disk; differing means "mismatch".
        """
        for gpu in self.row.gpus[: self.row.gpu_count]:
            gpu.energy_millijoules = 0
            for kind in (
                "corrected_dram",
                "corrected_sram",
                "uncorrected_dram",
                "uncorrected_sram",
            ):
                setattr(gpu, f"ecc_volatile_{kind}", 0)
        self.row.driver_version = version.encode()
        self.row.library_version = (library_version or version).encode()
        self.row.driver_generation += 1
        self.row.driver_loaded = 1

    @contextmanager
    def _locked(self, offset: int) -> Iterator[None]:
        def flock(kind: int) -> bytes:
            return struct.pack(FLOCK, kind, os.SEEK_SET, offset, 1, 0)

        with self._thread_lock:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLKW, flock(fcntl.F_WRLCK))
            try:
                yield
            finally:
                fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLKW, flock(fcntl.F_UNLCK))


def process_start_ticks(pid: int) -> int | None:
    """Return field 22 of /proc/PID/stat; None for a process that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may itself hold spaces and parentheses.
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _is_alive(row: ProcessRow) -> bool:
    pid: int = row.pid
    return pid != 0 and process_start_ticks(pid) == row.start_ticks


def _claim_row(gpu: GpuRow, pid: int, start_ticks: int, kind: ProcessKind) -> ProcessRow | None:
    """Return the row of this process, or a free or dead one made its own; None when full."""
    free: ProcessRow | None = None
    for row in gpu.processes:
        if (row.pid, row.start_ticks) == (pid, start_ticks):
            mine: ProcessRow = row
            return mine
        if free is None and not _is_alive(row):
            free = row
    if free is not None:
        ctypes.memset(ctypes.byref(free), 0, ctypes.sizeof(free))
        free.kind, free.start_ticks = int(kind), start_ticks
        free.pid = pid  # last: a reader that sees the pid sees its row
    return free
