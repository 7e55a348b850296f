"""Pick the driver's lines out of a kernel log, fit to be given away.  Pure.

An XID line carries the name of the process, which the workload chooses and which can hold what
nobody should see: it is cut out, the pid says who it was.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gpuward.agent.kmsg_records import parse_record, parse_xid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Of the driver and its switches, and of PCI's error reporting.
DRIVERS = re.compile(
    r"\bNVRM\b|\bnvidia(?:-\w+)?\b|\bSXid\b|\bpcieport\b.*\bAER\b|\bAER:", re.IGNORECASE
)
# What follows a name is read by nobody who does not have the pid too.
_NAME = re.compile(r"\bname=.*", re.DOTALL)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
LINE_LIMIT = 400
LINES_LIMIT = 20_000


def driver_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of the driver, the last ``LINES_LIMIT`` of them at most, each cut."""
    ours = [line for line in lines if DRIVERS.search(line)]
    for line in ours[-LINES_LIMIT:]:
        yield _UNPRINTABLE.sub("?", _without_names(line))[:LINE_LIMIT]


def _without_names(line: str) -> str:
    before, mark, _ = line.partition("NVRM: Xid")
    xid = parse_xid(line[len(before) :]) if mark else None
    if xid is None:
        return _NAME.sub("name=(left out)", line)
    return f"{before}{mark} (PCI:{xid.pci}): {xid.code}, pid={xid.pid or 'unknown'}, {xid.text}"


def record_lines(data: bytes) -> Iterator[str]:
    """Yield the records of /dev/kmsg in ``data`` as lines: seconds since boot, then the text."""
    for line in data.split(b"\n"):
        record = parse_record(line)
        # Facility 0 is the kernel's: user space cannot write there.
        if record is not None and record.facility == 0:
            yield f"[{record.at_s:12.6f}] {record.text}"
