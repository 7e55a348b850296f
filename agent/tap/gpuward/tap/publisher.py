"""Write allocator statistics to this process's tap file.

One file per process, made complete (space, header, record lock) under a temporary name and then
renamed, so that a reader never sees half a header.  A publication is one ``pwrite`` of a record
built in private memory, into the slot that the last publication did not use; no mapping, because a
truncated file would then kill the inference process with SIGBUS.  The lock on byte 0 tells the
reader that the writer lives, and its pid; a forked child does not hold it, so it drops the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gpuward.tap import layout, statistics
from gpuward.tap.process import process_facts
from gpuward.tap.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_U32 = (1 << 32) - 1
# How long a thread that is publishing may take before its file is left to the reader to clear away.
CLOSE_WAIT_S = 0.2


class SnapshotSummary(NamedTuple):
    """A walk over all blocks of one device, with free blocks by size class."""

    summary: layout.Summary = layout.NO_SUMMARY
    free_bytes: tuple[int, ...] = layout.NO_CLASSES
    free_counts: tuple[int, ...] = layout.NO_CLASSES


class Device:
    """What is published of one device, and what the next publication carries on."""

    def __init__(self, gpu_uuid: bytes, ordinal: int) -> None:
        self.gpu_uuid = gpu_uuid
        self.ordinal = ordinal
        self.seq = 0
        self.flags = 0
        # In the order of the file.
        self.figures = [0] * layout.FIGURES
        self.snapshot = SnapshotSummary()
        self.oom = layout.OutOfMemory()
        self.tick_cost_ns = 0
        self.missed = 0

    @property
    def snapshot(self) -> SnapshotSummary:
        return self._snapshot

    @snapshot.setter
    def snapshot(self, snapshot: SnapshotSummary) -> None:
        self._snapshot = snapshot
        flags = layout.SUMMARY_VALID if snapshot.summary.mono_ns else 0
        # Together, because another thread may be about to write them.
        self.walk = (layout.pack_walk(*snapshot), flags)


class Publisher:
    """The writer of one tap file; raises ``OSError`` when it cannot be made.

    ``devices``: the 16 bytes of each GPU's UUID and its ordinal in this process.  Any thread may
    publish: one that comes while another is publishing is counted as missed, and never waits.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        devices: Sequence[tuple[bytes, int]],
        *,
        torch_version: str = "",
        allocator_backend: str = "native",
        framework: str = "",
        alloc_conf: str = "",
        rank: int = 0,
        world: int = 0,
        period_ms: int = 1000,
        snapshot_min_period_ms: int = 0,
        header_flags: int = 0,
    ) -> None:
        facts = process_facts()
        self.header = layout.Header(
            device_count=len(devices),
            ns_pid=facts.pid,
            uid=facts.uid,
            pidns_inode=facts.pidns_inode,
            start_ticks=facts.start_ticks,
            created_realtime_ns=time.time_ns(),
            boot_id=facts.boot_id,
            period_ms=period_ms,
            snapshot_min_period_ms=snapshot_min_period_ms,
            tap_version=VERSION,
            torch_version=torch_version,
            allocator_backend=allocator_backend,
            framework=framework,
            alloc_conf=alloc_conf,
            rank=rank,
            world=world,
            flags=header_flags,
        )
        self.devices = [Device(gpu_uuid, ordinal) for gpu_uuid, ordinal in devices]
        self._buffer = bytearray(layout.SLOT_SIZE)
        self._view = memoryview(self._buffer)[: layout.RECORD_SIZE]
        self._busy = threading.Lock()
        self.path, self._fd = _create(Path(directory), self.header)
        _open_publishers.add(self)

    def publish(
        self,
        device_index: int,
        stats: Mapping[str, object],
        snapshot_summary: SnapshotSummary | None = None,
        *,
        flags: int = 0,
        tick_cost_ns: int = 0,
    ) -> bool:
        """Write ``stats``, of the shape of ``torch.cuda.memory_stats_as_nested_dict()``.

        ``device_index`` counts in ``devices``.  A summary is carried on until the next one.
        Returns False when another thread is publishing.  Raises ``OSError`` when the file cannot
        be written, ``ValueError`` after ``close``, ``struct.error`` for a figure below 0.
        """
        device = self.devices[device_index]
        if snapshot_summary is not None:
            device.snapshot = snapshot_summary
        device.figures = statistics.figures(stats, device.oom.request_bytes)
        device.flags, device.tick_cost_ns = flags, tick_cost_ns
        return self._write(device_index, device)

    def record_oom(
        self,
        device_index: int,
        request_bytes: int,
        device_free_bytes: int,
        stats: Mapping[str, object] | None = None,
    ) -> bool:
        """Write down an out-of-memory error at once; without ``stats`` the last ones are used.

        The record stays until the next error, so that a reader that was not there finds it.
        """
        device = self.devices[device_index]
        if stats is not None:
            device.figures = statistics.figures(stats, request_bytes)
        device.figures[statistics.LAST_OOM_REQUEST_BYTES] = request_bytes
        device.oom = layout.OutOfMemory(
            time.monotonic_ns(),
            request_bytes,
            device_free_bytes,
            device.figures[statistics.RESERVED_BYTES],
            device.figures[statistics.ACTIVE_BYTES],
        )
        return self._write(device_index, device)

    def close(self) -> None:
        """Remove the file: this process leaves cleanly and nobody needs its last words."""
        # Another thread may be about to write to the descriptor, whose number would be given to
        # the next file that the host opens.
        if self._fd < 0 or not self._busy.acquire(timeout=CLOSE_WAIT_S):
            return
        try:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self.abandon()
        finally:
            self._busy.release()

    def abandon(self) -> None:
        """Let go of the file but leave it in place, as a forked child must: it is its parent's."""
        fd, self._fd = self._fd, -1
        _open_publishers.discard(self)
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _write(self, device_index: int, device: Device) -> bool:
        if not self._busy.acquire(blocking=False):
            device.missed += 1
            return False
        try:
            if self._fd < 0:
                raise ValueError("the tap file is closed")
            device.seq += 2
            entry = _pack(self._buffer, device)
            os.pwrite(self._fd, self._view, self.header.slot_offset(device_index, device.seq))
            os.pwrite(self._fd, entry, self.header.ring_offset(device_index, device.seq))
        finally:
            self._busy.release()
        return True


def _pack(buffer: bytearray, device: Device) -> bytes:
    """Fill ``buffer`` with the record of ``device`` as it is now; return its entry of the ring."""
    figures, oom = device.figures, device.oom
    walk, walk_flags = device.walk
    flags = device.flags | walk_flags
    if oom.mono_ns:
        flags |= layout.OOM_SEEN
    if figures[statistics.PRIVATE_POOL_RESERVED_BYTES]:
        flags |= layout.CAPTURE_POOLS
    mono_ns = time.monotonic_ns()
    stamp = (device.seq, mono_ns, time.time_ns(), device.gpu_uuid, device.ordinal, flags)
    own = (min(device.tick_cost_ns, _U32), device.missed & _U32, 0, *oom)
    layout.pack_parts(buffer, stamp, figures, walk, own)
    entry = layout.RingEntry(
        mono_ns,
        figures[statistics.RESERVED_BYTES],
        figures[statistics.ALLOCATED_BYTES],
        figures[statistics.ACTIVE_BYTES],
        figures[statistics.INACTIVE_SPLIT_BYTES],
        figures[statistics.ALLOC_RETRIES],
        figures[statistics.OOMS],
        figures[statistics.ALLOCATIONS],
        flags,
    )
    return layout.pack_ring_entry(entry)


def _create(directory: Path, header: layout.Header) -> tuple[Path, int]:
    path = directory / f"{uuid.uuid4()}.tap"
    unfinished = path.with_suffix(".tmp")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(unfinished, flags, 0o600)
    try:
        os.fchmod(fd, 0o640)
        # A full disk shows now, not at some later write.
        os.posix_fallocate(fd, 0, header.file_size)
        os.pwrite(fd, layout.pack_header(header), 0)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        unfinished.rename(path)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    return path, fd


_open_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


def _abandon_all() -> None:
    for publisher in list(_open_publishers):
        publisher.abandon()


os.register_at_fork(after_in_child=_abandon_all)
