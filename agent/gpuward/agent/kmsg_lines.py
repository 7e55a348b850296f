r"""Parse what the kernel says about NVIDIA's hardware and driver beside XIDs. Pure.

The lines, as published logs quote them:

    nvidia-nvswitch3: SXid (PCI:0000:c5:00.0): 20034, Fatal, Link 24 LTSSM Fault Up
    NVRM: GPU 0000:91:00.0: GPU has fallen off the bus.
    NVRM: The NVIDIA GPU 0000:91:00.0 (PCI ID: ...) installed in this system has fallen off the bus
    NVRM: GPU 0000:17:00.0: RmInitAdapter failed! (0x62:0xffff:2477)
    NVRM: nvAssertOkFailedNoLog: Assertion failed: GPU requires reset [NV_ERR_RESET_REQUIRED] (0x62)
    NVRM: API mismatch: the client has the version 550.54.15, but
    INFO: task python3:4711 blocked for more than 120 seconds.

The kernel writes a blocked task's stack in the records that follow; a frame of the driver ends in
``[nvidia]`` or ``[nvidia_uvm]``.  Names of tasks are chosen by workloads and are not kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from gpuward.agent.kmsg_records import printable

# Looked for in the bytes of a record, for nearly no line is of interest.
MARKS = (b"NVRM:", b"SXid", b"blocked for more than", b"[nvidia")

_PLACE = r"(?P<pci>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
_SXID = re.compile(
    rf"nvidia-nvswitch(?P<switch>\d{{1,3}}): SXid \(PCI:{_PLACE}\): (?P<code>\d{{1,5}})(?!\d), "
    r"(?P<severity>Fatal|Non-fatal), (?P<text>.*)",
    re.DOTALL,
)
_LINK = re.compile(r"\bLink (\d{1,3})\b")
_GPU = re.compile(rf"\bGPU (?:at )?(?:PCI:)?{_PLACE}")
_BLOCKED = re.compile(r"INFO: task .{0,64}:(?P<pid>\d{1,10}) blocked for more than (?P<s>\d{1,9}) ")
_FRAME = re.compile(r"\[nvidia(?:_uvm|_modeset|_drm)?\]")


class Notice(Enum):
    """What the driver's own lines say; the phrase is in the line."""

    FALLEN_OFF = "fallen off the bus"
    INIT_FAILED = "RmInitAdapter failed"
    RESET_REQUIRED = "NV_ERR_RESET_REQUIRED"
    VERSION_MISMATCH = "API mismatch"


@dataclass(frozen=True, slots=True)
class Sxid:
    """An error of an NVSwitch; ``link`` is ``None`` where the line names none."""

    switch: int
    pci: str
    code: int
    fatal: bool
    link: int | None
    text: str


@dataclass(frozen=True, slots=True)
class NoticeLine:
    """A driver's line; ``pci`` is empty where it names no GPU."""

    notice: Notice
    pci: str
    text: str


@dataclass(frozen=True, slots=True)
class BlockedTask:
    """A task that the kernel finds blocked; whose fault, its stack says in the next records."""

    pid: int
    blocked_s: int


def parse_sxid(text: str) -> Sxid | None:
    """Return the SXid in the text of a record; ``None`` for its lines of details too."""
    found = _SXID.match(text)
    if found is None:
        return None
    link = _LINK.search(found["text"])
    return Sxid(
        switch=int(found["switch"]),
        pci=found["pci"],
        code=int(found["code"]),
        fatal=found["severity"] == "Fatal",
        link=int(link[1]) if link else None,
        text=printable(found["text"]),
    )


def parse_notice(text: str) -> NoticeLine | None:
    """Return what the driver says beside XIDs, ``None`` when the line is none of those known."""
    if not text.startswith("NVRM:") or text.startswith("NVRM: Xid"):
        return None
    notice = next((notice for notice in Notice if notice.value in text), None)
    if notice is None:
        return None
    gpu = _GPU.search(text)
    return NoticeLine(notice, gpu["pci"] if gpu else "", printable(text.removeprefix("NVRM: ")))


def parse_blocked(text: str) -> BlockedTask | None:
    """Return the blocked task that a record is about."""
    found = _BLOCKED.match(text)
    return BlockedTask(int(found["pid"]), int(found["s"])) if found else None


def is_driver_frame(text: str) -> bool:
    """Return whether a record is a frame of the driver in some stack."""
    return _FRAME.search(text) is not None
