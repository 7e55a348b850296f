"""What the line of an XID says beyond its code: how bad it is this time, and on which link. Pure.

NVLink 5 names the unit, the severity and the link, then two words of registers (NVIDIA's XID
catalogue, sheet "XID 144-150 Decode"; bits 20-25 of the first word are the sub-code):

    149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000 0x00000000 ...)

XID 154 names the recovery that the driver advises from now on:

    154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NVLINK = re.compile(
    r"(?P<unit>[A-Z][A-Z0-9_]{1,31}(?:/[A-Z0-9_]{1,31})?)\s+"
    r"(?P<severity>(?:Link )?Fatal|Non-?fatal)\s+XC\d{1,2}\s+i\d{1,2}\s+Link (?P<link>-?\d{1,3})\s+"
    r"\((?P<info>0x[0-9a-fA-F]{1,8}) (?P<status>0x[0-9a-fA-F]{1,8})",
)
# XID 74 of NVLink 4 and older.
_OLD_LINK = re.compile(r"\blink (\d{1,3})\b", re.IGNORECASE)
_RECOVERY = re.compile(
    r"recovery action changed from 0x[0-9a-fA-F]{1,8}.{0,60}? to 0x(?P<now>[0-9a-fA-F]{1,8})"
)
SUB_CODE_SHIFT = 20
SUB_CODE_MASK = 0x3F


@dataclass(frozen=True, slots=True)
class NvlinkError:
    """The details of an XID 144 to 150; ``link`` is ``None`` where no single one is at fault."""

    unit: str
    fatal: bool
    link: int | None
    sub_code: int
    status: int


def parse_nvlink(text: str) -> NvlinkError | None:
    """Return the details in the text of an XID 144 to 150."""
    found = _NVLINK.search(text)
    if found is None:
        return None
    link = int(found["link"])
    return NvlinkError(
        unit=found["unit"],
        fatal=found["severity"].endswith("Fatal"),
        link=link if link >= 0 else None,
        sub_code=int(found["info"], 16) >> SUB_CODE_SHIFT & SUB_CODE_MASK,
        status=int(found["status"], 16),
    )


def link_of(text: str) -> int | None:
    """Return the link that an NVLink error is about, new or old."""
    if (error := parse_nvlink(text)) is not None:
        return error.link
    found = _OLD_LINK.search(text)
    return int(found[1]) if found else None


def parse_recovery(text: str) -> int | None:
    """Return NVML's number of the recovery that is advised now, from the text of an XID 154."""
    found = _RECOVERY.search(text)
    return int(found["now"], 16) if found else None
