"""Keep over restarts up to where the kernel log was read, and what is known of XIDs.

That is the ledger of serious ones, and which were told without a line of the log.  One small file
in the state folder, replaced as a whole, written by a thread of its own: a disk that hangs delays
no XID.  What is lost with the file is a count, never an event: the log is read from its beginning
anyhow, and the spool knows what it has had.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import structlog

from gpuward.agent.whole_file import write_whole
from gpuward.agent.xid_ledger import Entry, Ledger
from gpuward.agent.xid_reports import Report  # noqa: TC001 - msgspec needs it at run time

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = structlog.get_logger()

FILE = "kmsg.json"
CLOSE_WITHIN_S = 0.5


class Kept(msgspec.Struct, frozen=True):
    """The file."""

    boot_id: str = ""
    seq: int = -1
    xids: list[Entry] = []
    told: list[Report] = []


class KmsgMemory:
    """The file of one agent, and what it said when the agent started."""

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._path = directory / FILE
        self._boot_id = boot_id
        kept = _read(self._path)
        self.ledger = Ledger(kept.xids)
        # Sequence number of the last record that was read before; -1 in a boot that is new.
        self.seq = kept.seq if kept.boot_id == boot_id else -1
        # XIDs of this boot that were told without a line.
        self.told = tuple(kept.told) if kept.boot_id == boot_id else ()
        self._written = msgspec.json.encode(kept)
        self._writer: threading.Thread | None = None

    def save(self, seq: int, told: Iterable[Report] = ()) -> None:
        """Write in the background if anything has changed; while it is being written, later."""
        if self._writer is not None and self._writer.is_alive():
            return
        data = msgspec.json.encode(Kept(self._boot_id, seq, self.ledger.entries, list(told)))
        if data != self._written:
            self._written = data
            self._writer = threading.Thread(
                target=self._write, args=(data,), name="kmsg memory", daemon=True
            )
            self._writer.start()

    def close(self, seq: int, told: Iterable[Report] = ()) -> None:
        """Write for the last time; a disk that hangs is waited for only a moment."""
        self._settle()
        self.save(seq, told)
        self._settle()

    def _settle(self) -> None:
        if self._writer is not None:
            self._writer.join(CLOSE_WITHIN_S)

    def _write(self, data: bytes) -> None:
        try:
            write_whole(self._path, data)
        except OSError as error:
            # The next change is another chance.
            log.warning("kmsg.not_remembered", path=str(self._path), reason=error.strerror)


def _read(path: Path) -> Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("kmsg.forgotten", path=str(path), reason=str(error))
        return Kept()
