"""Keep over restarts up to where the kernel log was read, and what is known of XIDs.

That is the ledger of serious ones, and which were told without a line of the log.  One small file
in the state folder, replaced as a whole, in the background: a disk that hangs delays no XID.  What
is lost with the file is a count, never an event: the log is read from its beginning anyhow, and the
spool knows what it has had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from gpuward.agent.background_file import BackgroundFile
from gpuward.agent.xid_ledger import Entry, Ledger
from gpuward.agent.xid_reports import Report  # noqa: TC001 - msgspec needs it at run time

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = structlog.get_logger()

FILE = "kmsg.json"


class Kept(msgspec.Struct, frozen=True):
    """The file."""

    boot_id: str = ""
    seq: int = -1
    xids: list[Entry] = []
    told: list[Report] = []


class KmsgMemory:
    """The file of one agent, and what it said when the agent started."""

    def __init__(self, directory: Path, boot_id: str) -> None:
        path = directory / FILE
        self._boot_id = boot_id
        kept = _read(path)
        self.ledger = Ledger(kept.xids)
        # Sequence number of the last record that was read before; -1 in a boot that is new.
        self.seq = kept.seq if kept.boot_id == boot_id else -1
        # XIDs of this boot that were told without a line.
        self.told = tuple(kept.told) if kept.boot_id == boot_id else ()
        self._file = BackgroundFile(path)

    def save(self, seq: int, told: Iterable[Report] = ()) -> None:
        """Have it written in the background if anything has changed."""
        self._file.save(self._encoded(seq, told))

    def close(self, seq: int, told: Iterable[Report] = ()) -> None:
        """Write for the last time; a disk that hangs is waited for only a moment."""
        self._file.save_and_wait(self._encoded(seq, told))

    def _encoded(self, seq: int, told: Iterable[Report]) -> bytes:
        return msgspec.json.encode(Kept(self._boot_id, seq, self.ledger.entries, list(told)))


def _read(path: Path) -> Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("kmsg.forgotten", path=str(path), reason=str(error))
        return Kept()
