r"""Parse what the kernel says: records of /dev/kmsg, and the driver's XID lines in them. Pure.

A record is ``prio,seq,usec,flags[,more];text`` and continuation lines that begin with a space
(Documentation/ABI/testing/dev-kmsg); the kernel writes unprintable bytes and ``\`` as ``\xNN``, so
a text has no line break of its own.  An XID line is NVIDIA's:

    NVRM: Xid (PCI:0000:10:00): 79, pid=1234, name=python3, GPU has fallen off the bus.

The process name in it is chosen by the workload: it may hold commas, spaces and parentheses, so
nothing is parsed beyond it.  It is cut out, as the pid says who it was and a title can hold what
nobody should see; what is left of the text is printable and short.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# LOG_KERN is 0; user space cannot write records of that facility.
FACILITY_SHIFT = 3
TEXT_LIMIT = 200

_XID = re.compile(
    r"NVRM: Xid \((?:PCI:)?(?P<pci>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)\): "
    r"(?P<code>\d{1,5})(?!\d)(?:, pid='?(?P<pid>\d{1,10}|<unknown>)'?(?=,|$))?(?P<rest>.*)",
    re.DOTALL,
)
# A name has 15 bytes at most (TASK_COMM_LEN); the kernel writes some of them as four characters.
# Greedy: of a name with commas rather a word too many goes, and all of what is no name.
_NAME = re.compile(r"\bname=(?:(?:\\x[0-9a-f]{2}|.){0,15}(?:, |$)|.*)", re.DOTALL)
_PCI = re.compile(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.[0-7])?")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Record:
    """One record; ``at_s`` is the kernel's clock, seconds since boot (CLOCK_MONOTONIC)."""

    facility: int
    level: int
    seq: int
    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Xid:
    """One XID line; ``pid`` is 0 where the driver does not know it."""

    pci: str
    code: int
    pid: int
    text: str


def parse_record(data: bytes) -> Record | None:
    """Return the record in ``data``, ``None`` when it is not one."""
    line = data.partition(b"\n")[0]
    header, found, text = line.partition(b";")
    fields = header.split(b",")
    if not found or len(fields) < 3:  # noqa: PLR2004 - prio, seq, usec
        return None
    try:
        prio, seq, usec = (int(field) for field in fields[:3])
    except ValueError:
        return None
    if prio < 0 or seq < 0 or usec < 0:
        return None
    level = prio & ((1 << FACILITY_SHIFT) - 1)
    return Record(
        prio >> FACILITY_SHIFT, level, seq, usec / 1e6, text.decode("utf-8", errors="replace")
    )


def sequence(data: bytes) -> int | None:
    """Return the number of the record in ``data`` without parsing the rest; ``None`` for none."""
    fields = data[:64].split(b",", 2)
    try:
        return int(fields[1])
    except (IndexError, ValueError):
        return None


def parse_xid(text: str) -> Xid | None:
    """Return the XID in the text of a record, ``None`` when it holds none."""
    found = _XID.match(text)
    if found is None:
        return None
    pid = found["pid"] or ""
    rest = _NAME.sub("", found["rest"].lstrip(", "), count=1)
    return Xid(
        pci=found["pci"],
        code=int(found["code"]),
        pid=int(pid) if pid.isdecimal() else 0,
        text=printable(rest),
    )


def printable(text: str) -> str:
    """Return ``text`` fit for people and terminals: printable ASCII, and short."""
    return _UNPRINTABLE.sub("?", text)[:TEXT_LIMIT]


def pci_place(bus_id: str) -> tuple[int, int, int] | None:
    """Return domain, bus and device; the kernel and NVML write them in different widths."""
    found = _PCI.fullmatch(bus_id)
    return (int(found[1], 16), int(found[2], 16), int(found[3], 16)) if found else None
