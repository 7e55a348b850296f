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
from typing import TYPE_CHECKING

from gpuward.tap import layout

if TYPE_CHECKING:
    from pathlib import Path

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
        self._gpus: dict[int, bytes] = {}
        # The newest valid record of each device that has one.
        self.latest: dict[int, layout.Record] = {}
        # Records that came from a device which had named another GPU before.
        self.foreign = 0

    def read(self) -> dict[int, layout.Record]:
        """Return the records that are newer than at the last read, by device index."""
        fresh = {}
        for device_index in range(self.header.device_count):
            record = self._newest(device_index)
            if record is not None and self._is_new(device_index, record):
                fresh[device_index] = self.latest[device_index] = record
        return fresh

    def age_s(self, wall_s: float) -> float:
        """Return how long ago the file was last written, by the wall clock."""
        return wall_s - os.fstat(self.fd).st_mtime

    def close(self) -> None:
        os.close(self.fd)

    def _newest(self, device_index: int) -> layout.Record | None:
        size = self.header.slot_size
        offset = self.header.device_offset(device_index)
        for _ in range(READ_ATTEMPTS):
            raw = os.pread(self.fd, layout.SLOTS * size, offset)
            # The newer slot first: checking and unpacking is nearly all that a scan costs.
            for at in sorted((0, size), key=lambda at: _sequence(raw, at), reverse=True):
                record = layout.unpack_record(raw, at)
                if record is not None:
                    return record
            if not any(raw):
                return None
        return None

    def _is_new(self, device_index: int, record: layout.Record) -> bool:
        if record.gpu_uuid == _NO_GPU:
            return False
        if record.gpu_uuid != self._gpus.setdefault(device_index, record.gpu_uuid):
            self.foreign += 1
            return False
        before = self.latest.get(device_index)
        return before is None or record.seq > before.seq


def _sequence(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 8], "little")


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
