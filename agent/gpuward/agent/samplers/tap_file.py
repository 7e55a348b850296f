"""Read one tap file without trusting whoever wrote it.

Anyone on the node may put anything into the tap directory: links, pipes, files that shrink, lie or
never end.  So: no following of links, no blocking open, regular files with one name only, a size
limit, ``pread`` only (a mapping of a truncated file is SIGBUS), every record checked by sequence
number and CRC, and a device keeps the GPU that it named first, so that a file cannot make series
without end.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

from gpuward.agent.samplers.tap_record import unpack_record
from gpuward.tap import layout

if TYPE_CHECKING:
    from pathlib import Path

    from gpuward.agent.samplers.tap_record import PackedRecord

MAX_FILE_BYTES = 256 * 1024
# A record torn in both slots is overwritten within microseconds.
READ_ATTEMPTS = 3
_NO_GPU = bytes(16)


class RefusedError(Exception):
    """The file is no tap file, or not one to read; the message is a short reason."""


class TapFile:
    """An open tap file; ``uid`` is its owner.  Raises ``RefusedError``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = _open(path)
        try:
            status = os.fstat(self.fd)
            _check(status)
            self.uid = status.st_uid
            self.inode = status.st_ino
            self.header = _header(self.fd, status.st_size)
        except BaseException:
            os.close(self.fd)
            raise
        devices = range(self.header.device_count)
        self._offsets = [self.header.device_offset(device) for device in devices]
        self._slot_size = self.header.slot_size
        self._sequences = struct.Struct(f"<Q{self._slot_size - 8}xQ")
        self._gpus: dict[int, bytes] = {}
        # Of the newest record of each device.
        self._newest_seq = [0] * len(devices)
        # Records that came from a device which had named another GPU before.
        self.foreign = 0

    def read(self) -> dict[int, PackedRecord]:
        """Return the records that are newer than at the last read, by device index."""
        fresh = {}
        for device_index, offset in enumerate(self._offsets):
            record = self._newer(offset, self._newest_seq[device_index])
            if record is not None and self._is_of_its_gpu(device_index, record):
                self._newest_seq[device_index] = record.seq
                fresh[device_index] = record
        return fresh

    def age_s(self, wall_s: float) -> float:
        """Return how long ago the file was last written, by the wall clock."""
        return wall_s - os.fstat(self.fd).st_mtime

    def close(self) -> None:
        os.close(self.fd)

    def _newer(self, offset: int, seq: int) -> PackedRecord | None:
        """Return the newest whole record of a device, if it comes after ``seq``."""
        size = self._slot_size
        for _ in range(READ_ATTEMPTS):
            raw = os.pread(self.fd, layout.SLOTS * size, offset)
            if len(raw) < self._sequences.size:
                return None
            first, second = self._sequences.unpack_from(raw)
            # What claims to be no news need not be checked; of two that are, the newer is first.
            if first <= seq >= second:
                return None
            newer, older = (0, size) if first > second else (size, 0)
            record = unpack_record(raw, newer)
            if record is not None or first <= seq or second <= seq:
                return record
            record = unpack_record(raw, older)
            if record is not None:
                return record
        return None

    def _is_of_its_gpu(self, device_index: int, record: PackedRecord) -> bool:
        if record.gpu_uuid == _NO_GPU:
            return False
        if record.gpu_uuid == self._gpus.setdefault(device_index, record.gpu_uuid):
            return True
        self.foreign += 1
        return False


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RefusedError("unreadable") from error


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("not a regular file")
    if status.st_nlink != 1:
        # Gone already, or a second name of a file that lies elsewhere.
        raise RefusedError("linked elsewhere")
    if status.st_size > MAX_FILE_BYTES:
        raise RefusedError("too large")


def _header(fd: int, size: int) -> layout.Header:
    try:
        header = layout.unpack_header(os.pread(fd, layout.HEADER_SIZE, 0))
    except layout.LayoutError as error:
        raise RefusedError(str(error)) from error
    if header.file_size > size:
        raise RefusedError("shorter than its header says")
    return header
