"""Read a kernel log record by record, whatever happens to it: overwritten, flooded, replaced.

/dev/kmsg hands out one record a read, says EPIPE when it had to overwrite some, and numbers its
records, so it is known how many were lost.  A regular file with the same records (the simulator's)
is followed by offset, and an unfinished last line waits for its rest.  Nothing here waits: a turn
ends when the log does, or after its share.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from gpuward.agent.kmsg_records import sequence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The kernel's longest record is below 8 KiB; a shorter buffer would fail with EINVAL.
RECORD_LIMIT_BYTES = 8_192
# For a kernel with longer ones.
LONGEST_RECORD_BYTES = 65_536
# One turn's share of the event loop: a flood waits in the kernel's ring.
READS_A_TURN = 1_024
FILE_BYTES_A_TURN = 1 << 18


class KernelLog:
    """A kernel log that is read on from where the last turn ended."""

    def __init__(self, path: Path, *, read_until: int = -1) -> None:
        """``read_until``: sequence number of the last record that is known from before."""
        self._path = path
        self._fd = -1
        self._is_regular = False
        self._inode = 0
        self._offset = 0
        self._rest = b""
        # Of the newest record that was read; what lies between it and the next was lost.
        self.seq = read_until
        # Of the newest that was handed out: a log that is opened again begins at its oldest.
        self._handed_out = -1
        # How often another log was found at the path.
        self.replaced_total = 0
        # Records that were overwritten, or were longer than any can be.
        self.dropped_total = 0
        # There was more than one turn's share.
        self.is_behind = False

    def read(self) -> Iterator[bytes]:
        """Yield the records of one turn, oldest first; raises ``OSError``."""
        self._open()
        self.is_behind = False
        skip_until, last = self._handed_out, b""
        try:
            for record in self._lines_of_file() if self._is_regular else self._reads_of_device():
                if skip_until >= 0 and (sequence(record) or 0) <= skip_until:
                    continue
                skip_until, last = -1, record
                yield record
        finally:
            self._note(last)

    def close(self) -> None:
        """Close the log; the next turn begins at its oldest record."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _open(self) -> None:
        if self._fd >= 0 and self._is_regular and self._replaced():
            # Another log counts its records anew.
            self.close()
            self.seq = self._handed_out = -1
            self.replaced_total += 1
        if self._fd >= 0:
            return
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self._is_regular = stat.S_ISREG(status.st_mode)
        self._inode = status.st_ino
        self._offset = 0
        self._rest = b""

    def _replaced(self) -> bool:
        """Return whether the file at the path is another one, or was cut."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return True
        return status.st_ino != self._inode or status.st_size < self._offset

    def _lines_of_file(self) -> Iterator[bytes]:
        data = os.pread(self._fd, FILE_BYTES_A_TURN, self._offset)
        self.is_behind = len(data) == FILE_BYTES_A_TURN
        self._offset += len(data)
        *lines, rest = (self._rest + data).split(b"\n")
        # A line without an end is not a record yet; one beyond all bounds never will be.
        self._rest = rest if len(rest) <= RECORD_LIMIT_BYTES else b""
        yield from lines

    def _reads_of_device(self) -> Iterator[bytes]:
        has_gap = True
        data = b""
        for _ in range(READS_A_TURN):
            try:
                record = self._read_one()
            except BlockingIOError:
                break
            except BrokenPipeError:
                # Overwritten before it was read; the next read is at the oldest that is left.
                has_gap = True
                self._note(data)
                continue
            if not record:
                break
            if has_gap:
                self._count_lost(record)
                has_gap = False
            data = record
            yield record
        else:
            self.is_behind = True

    def _read_one(self) -> bytes:
        for size in (RECORD_LIMIT_BYTES, LONGEST_RECORD_BYTES):
            try:
                return os.read(self._fd, size)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        # The record stays in the way for ever: go on behind all that is there now.
        os.lseek(self._fd, 0, os.SEEK_END)
        self.dropped_total += 1
        return os.read(self._fd, LONGEST_RECORD_BYTES)

    def _note(self, record: bytes) -> None:
        if (seq := sequence(record)) is not None:
            self._handed_out = max(self._handed_out, seq)
            self.seq = max(self.seq, seq)

    def _count_lost(self, record: bytes) -> None:
        """Count what is missing between the newest record known and ``record``."""
        seq = sequence(record)
        if seq is not None and self.seq >= 0:
            self.dropped_total += max(0, seq - self.seq - 1)
