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

from gpuward.tap import layout
from gpuward.tap.process import process_facts
from gpuward.tap.statistics import counters, totals
from gpuward.tap.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_U64 = (1 << 64) - 1
_U32 = (1 << 32) - 1


class SnapshotSummary(NamedTuple):
    """A walk over all blocks of one device, with free blocks by size class."""

    summary: layout.Summary
    free_bytes: tuple[int, ...]
    free_counts: tuple[int, ...]


_NO_SUMMARY = SnapshotSummary(
    layout.Summary(), (0,) * layout.SIZE_CLASSES, (0,) * layout.SIZE_CLASSES
)


class Device:
    """What is published of one device, and what the next publication carries on."""

    def __init__(self, gpu_uuid: bytes, ordinal: int) -> None:
        self.ordinal = ordinal
        self.record = layout.Record(0, 0, 0, gpu_uuid, ordinal)
        self.snapshot = _NO_SUMMARY
        self.oom = layout.OutOfMemory()
        self.missed = 0


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
        be written, ``ValueError`` after ``close``.
        """
        device = self.devices[device_index]
        if snapshot_summary is not None:
            device.snapshot = snapshot_summary
        figures = counters(stats)
        record = device.record._replace(
            flags=flags,
            all_pools=figures.all_pools,
            small_pool=figures.small_pool,
            large_pool=figures.large_pool,
            peak=figures.peak,
            totals=totals(stats),
            tick_cost_ns=min(tick_cost_ns, _U32),
        )
        if record.totals.private_pool_reserved_bytes:
            record = record._replace(flags=record.flags | layout.CAPTURE_POOLS)
        return self._write(device_index, device, record)

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
        record = device.record
        if stats is not None:
            figures = counters(stats)
            record = record._replace(
                all_pools=figures.all_pools,
                small_pool=figures.small_pool,
                large_pool=figures.large_pool,
                peak=figures.peak,
                totals=totals(stats),
            )
        device.oom = layout.OutOfMemory(
            mono_ns=time.monotonic_ns(),
            request_bytes=_u64(request_bytes),
            device_free_bytes=_u64(device_free_bytes),
            reserved_bytes=record.all_pools.reserved_bytes,
            active_bytes=record.all_pools.active_bytes,
        )
        return self._write(device_index, device, record)

    def close(self) -> None:
        """Remove the file: this process leaves cleanly and nobody needs its last words."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file but leave it in place, as a forked child must: it is its parent's."""
        fd, self._fd = self._fd, -1
        _open_publishers.discard(self)
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _write(self, device_index: int, device: Device, record: layout.Record) -> bool:
        if not self._busy.acquire(blocking=False):
            device.missed += 1
            return False
        try:
            self._write_locked(device_index, device, record)
        finally:
            self._busy.release()
        return True

    def _write_locked(self, device_index: int, device: Device, record: layout.Record) -> None:
        if self._fd < 0:
            raise ValueError("the tap file is closed")
        seq = device.record.seq + 2
        flags = record.flags
        flags |= layout.OOM_SEEN if device.oom.mono_ns else 0
        flags |= layout.SUMMARY_VALID if device.snapshot.summary.mono_ns else 0
        record = record._replace(
            seq=seq,
            mono_ns=time.monotonic_ns(),
            real_ns=time.time_ns(),
            flags=flags,
            totals=record.totals._replace(last_oom_request_bytes=device.oom.request_bytes),
            summary=device.snapshot.summary,
            free_bytes=device.snapshot.free_bytes,
            free_counts=device.snapshot.free_counts,
            missed_ticks=device.missed & _U32,
            oom=device.oom,
        )
        layout.pack_record(self._buffer, record)
        os.pwrite(self._fd, self._view, self.header.slot_offset(device_index, seq))
        device.record = record
        os.pwrite(self._fd, _ring_entry(record), self.header.ring_offset(device_index, seq))


def _ring_entry(record: layout.Record) -> bytes:
    now, totals_ = record.all_pools, record.totals
    return layout.pack_ring_entry(
        layout.RingEntry(
            record.mono_ns,
            now.reserved_bytes,
            now.allocated_bytes,
            now.active_bytes,
            now.inactive_split_bytes,
            totals_.alloc_retries,
            totals_.ooms,
            totals_.allocations,
            record.flags,
        )
    )


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


def _u64(value: int) -> int:
    return min(max(value, 0), _U64)


_open_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


def _abandon_all() -> None:
    for publisher in list(_open_publishers):
        publisher.abandon()


os.register_at_fork(after_in_child=_abandon_all)
