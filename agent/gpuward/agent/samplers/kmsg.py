"""Follow the kernel log for XIDs: the driver's own word about a fault, also while it hangs.

/dev/kmsg hands out one record a read and says EPIPE when it had to overwrite some; a regular file
with the same records (the simulator's) is followed by offset, and an unfinished last line waits for
its rest.  The log is read from its beginning: after a restart of the agent the same record gives an
event of the same identity (boot and sequence number), so nothing is missed and nothing counts
twice.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Self

import structlog

from gpuward.agent.kmsg_records import Record, Xid, parse_record, parse_xid, pci_place
from gpuward.agent.model import Batch, ComponentHealth, Event, Result, Sample, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gpuward.agent.model import Gpu

log = structlog.get_logger()

# The kernel's longest record is below 8 KiB; a shorter buffer would fail with EINVAL.
RECORD_LIMIT_BYTES = 8_192
# One turn's share of the event loop: a flood waits in the kernel's ring.
READS_A_TURN = 4_096
FILE_BYTES_A_TURN = 1 << 20
XIDS_A_SECOND = 200
# XIDs of the boot wait for the GPUs to be known, but not for a driver that never comes.
NAMELESS_S = 10.0
MARK = b"NVRM: Xid"


class KmsgSampler:
    """Reads a kernel log and yields an event for each XID."""

    name = "kmsg"
    period_s = 1.0

    def __init__(self, path: Path, *, boot_id: str, gpus: Callable[[], Sequence[Gpu]]) -> None:
        """``gpus``: says which GPUs are known, to give a PCI address its UUID."""
        self._path = path
        self._boot_id = boot_id
        self._gpus = gpus
        self._fd = -1
        self._is_regular = False
        self._inode = 0
        self._offset = 0
        self._rest = b""
        self._seq = -1
        self._pending: list[tuple[Record, Xid]] = []
        self._first_s: float | None = None
        self._trouble = ""
        # Records that the kernel overwrote before they were read: at least so many times.
        self.overrun_total = 0
        # XIDs above what one second may bring.
        self.dropped_total = 0

    @property
    def health(self) -> ComponentHealth:
        """Unknown, with the reason, while the log cannot be read."""
        result = Result.UNKNOWN if self._trouble else Result.OK
        return ComponentHealth(self.name, result, self._trouble)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the log."""
        self._close()

    async def sample(self, now_s: float) -> Batch:
        """Return an event for each XID since the last turn, oldest first."""
        if self._first_s is None:
            self._first_s = now_s
        try:
            self._read()
        except OSError as error:
            self._close()
            self._say(f"{self._path}: {error.strerror or error}")
        else:
            self._say("")
        readable = Sample(SeriesKey("node_kmsg_readable"), now_s, float(not self._trouble))
        if not self._gpus() and now_s - self._first_s < NAMELESS_S:
            return Batch((readable,))
        events = tuple(self._event(record, xid, now_s) for record, xid in self._pending)
        self._pending.clear()
        return Batch((readable,), events)

    def _read(self) -> None:
        self._open()
        budget = XIDS_A_SECOND
        for data in self._records():
            # Looked for in the bytes first: nearly no line is one, and floods are cheap so.
            if MARK not in data:
                continue
            record = parse_record(data)
            if record is None or record.facility != 0 or record.seq <= self._seq:
                continue
            self._seq = record.seq
            if (xid := parse_xid(record.text)) is None:
                continue
            if len(self._pending) >= budget:
                self.dropped_total += 1
            else:
                self._pending.append((record, xid))

    def _open(self) -> None:
        if self._fd >= 0 and self._is_regular and self._replaced():
            # Another log counts its records anew.
            self._close()
            self._seq = -1
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

    def _records(self) -> Iterator[bytes]:
        return self._lines_of_file() if self._is_regular else self._reads_of_device()

    def _lines_of_file(self) -> Iterator[bytes]:
        data = os.pread(self._fd, FILE_BYTES_A_TURN, self._offset)
        self._offset += len(data)
        *lines, rest = (self._rest + data).split(b"\n")
        # A line without an end is not a record yet; one beyond all bounds never will be.
        self._rest = rest if len(rest) <= RECORD_LIMIT_BYTES else b""
        yield from lines

    def _reads_of_device(self) -> Iterator[bytes]:
        for _ in range(READS_A_TURN):
            try:
                data = os.read(self._fd, RECORD_LIMIT_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:
                # Overwritten before it was read; the next read is at the oldest that is left.
                self.overrun_total += 1
                continue
            if not data:
                return
            yield data

    def _event(self, record: Record, xid: Xid, now_s: float) -> Event:
        place = pci_place(xid.pci)
        uuid = next((gpu.uuid for gpu in self._gpus() if pci_place(gpu.pci_bus_id) == place), "")
        return Event(
            kind="gpu.xid",
            at_s=min(record.at_s, now_s),
            identity=f"kmsg:{self._boot_id}:{record.seq}",
            code=xid.code,
            gpu=uuid,
            pid=xid.pid,
            # Without a name the address is all there is to go by.
            text=xid.text if uuid else f"PCI:{xid.pci}: {xid.text}",
        )

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("kmsg.unreadable", reason=trouble)
        self._trouble = trouble

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
