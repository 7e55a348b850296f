"""Turn records of the kernel log into events: which kind, which GPU, whose identity. Pure.

The identity of an event is the boot and the record's sequence number: a log that is read again
after a restart gives the same events under the same names, and the spool keeps each once.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpuward.agent.kmsg_lines import (
    MARKS,
    BlockedTask,
    Notice,
    NoticeLine,
    Sxid,
    is_driver_frame,
    parse_blocked,
    parse_notice,
    parse_sxid,
)
from gpuward.agent.kmsg_records import Record, Xid, parse_record, parse_xid, pci_place
from gpuward.agent.model import Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuward.agent.model import Gpu

XID = "gpu.xid"
SXID = "node.sxid"
INIT_FAILED = "gpu.init_failed"
TASK_BLOCKED = "driver.task_blocked"
VERSION_MISMATCH = "driver.version_mismatch"
KIND_OF = {
    Notice.INIT_FAILED: INIT_FAILED,
    Notice.RESET_REQUIRED: INIT_FAILED,
    Notice.VERSION_MISMATCH: VERSION_MISMATCH,
}
# The kernel writes a stack at once after the line that it belongs to.
STACK_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """A record that says something, parsed."""

    record: Record
    says: Xid | Sxid | NoticeLine | BlockedTask


class Lines:
    """Finds what is of interest in a stream of records."""

    def __init__(self) -> None:
        # A blocked task whose stack is being read.
        self._blocked: Line | None = None

    def parse(self, data: bytes) -> Line | None:
        """Return what the record in ``data`` says; a blocked task once its stack shows the driver.

        User space cannot write records of the kernel's facility, which is 0.
        """
        if not any(mark in data for mark in MARKS):
            return None
        record = parse_record(data)
        if record is None or record.facility != 0:
            return None
        if (task := parse_blocked(record.text)) is not None:
            self._blocked = Line(record, task)
            return None
        says = parse_xid(record.text) or parse_sxid(record.text) or parse_notice(record.text)
        return Line(record, says) if says is not None else self._stack(record)

    def _stack(self, record: Record) -> Line | None:
        task, self._blocked = self._blocked, None
        if task is None or record.at_s - task.record.at_s > STACK_WITHIN_S:
            return None
        if is_driver_frame(record.text):
            return task
        self._blocked = task
        return None


class EventMaker:
    """Makes events of lines, with the names that are known now."""

    def __init__(self, boot_id: str, gpus: Sequence[Gpu], now_s: float) -> None:
        self._boot_id = boot_id
        self._uuids = {pci_place(gpu.pci_bus_id): gpu.uuid for gpu in gpus}
        self._now_s = now_s

    def event(self, line: Line) -> Event:
        """Return what ``line`` says as an event."""
        match line.says:
            case Xid() as xid:
                return self._of_gpu(line, XID, xid.pci, xid.text, code=xid.code, pid=xid.pid)
            case Sxid() as sxid:
                values = {"switch": float(sxid.switch), "fatal": float(sxid.fatal)}
                if sxid.link is not None:
                    values["link"] = float(sxid.link)
                text = f"nvswitch{sxid.switch}: {sxid.text}"
                return self._event(line, SXID, text, code=sxid.code, values=values)
            case NoticeLine() as said if said.notice is Notice.FALLEN_OFF:
                return self._of_gpu(line, XID, said.pci, said.text, code=79)
            case NoticeLine() as said:
                return self._of_gpu(line, KIND_OF[said.notice], said.pci, said.text)
            case BlockedTask() as task:
                text = f"A task was blocked for more than {task.blocked_s} s, in the driver."
                values = {"blocked_seconds": float(task.blocked_s)}
                return self._event(line, TASK_BLOCKED, text, pid=task.pid, values=values)

    def _of_gpu(
        self, line: Line, kind: str, pci: str, text: str, *, code: int = 0, pid: int = 0
    ) -> Event:
        gpu = self._uuids.get(pci_place(pci), "") if pci else ""
        # Without a name the address is all there is to go by.
        words = text if gpu or not pci else f"PCI:{pci}: {text}"
        return self._event(line, kind, words, gpu=gpu, code=code, pid=pid)

    def _event(
        self,
        line: Line,
        kind: str,
        text: str,
        *,
        gpu: str = "",
        code: int = 0,
        pid: int = 0,
        values: Mapping[str, float] = MappingProxyType({}),
    ) -> Event:
        return Event(
            kind=kind,
            at_s=min(line.record.at_s, self._now_s),
            identity=f"kmsg:{self._boot_id}:{line.record.seq}",
            code=code,
            gpu=gpu,
            pid=pid,
            text=text,
            values=MappingProxyType(dict(values)),
        )
