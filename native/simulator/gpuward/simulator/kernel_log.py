"""The simulated kernel log: a file of /dev/kmsg records, appended to.

A regular file instead of a pipe keeps what was said before a reader came, as the kernel does; a
reader follows it by offset, one record a line.  Record format: Documentation/ABI/testing/dev-kmsg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gpuward.daemon.clock import Clock
    from gpuward.simulator.layout import GpuRow

INFO = 6
WARNING = 4
ERROR = 3

# What the driver itself says; wording as in published logs, without the tail that varies.
XID_TEXTS = {
    13: "Graphics Exception: ESR 0x504648=0xd",
    31: "MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f0a_8c000000",
    43: "Ch 00000008",
    48: "DBE (double bit error) ECC Error, sbe count 0, dbe count 1",
    63: "Row Remapper: New row (0x0000000000000042) marked for remapping, reset gpu to activate.",
    64: "Row Remapper: Row remap failed",
    74: "NVLink: fatal error detected on link 3(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)",
    79: "GPU has fallen off the bus.",
    94: "Contained: CE User Channel (0x9). RST: No, D-RST: No",
    95: "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No",
    119: "Timeout after 45s of waiting for RPC response from GPU0 GSP!",
}


# The switches of an HGX board sit on buses of their own.
SWITCH_FIRST_BUS = 0x83
SXID_TEXTS = {
    12028: "Link 32 egress non-posted PRIV error (First)",
    20034: "Link 30 LTSSM Fault Up",
}


class KernelLog:
    """Appends records; sequence numbers count from 0 for each log."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._sequence = 0
        path.touch()

    def write(self, text: str, level: int = INFO) -> None:
        """Append one record of the kernel facility, stamped with the monotonic clock."""
        self.write_all([text], level)

    def write_all(self, texts: Sequence[str], level: int = INFO) -> None:
        """Append a record for each text, all at once."""
        stamp = int(self._clock.mono_s() * 1e6)
        with self._path.open("a", encoding="utf-8") as log:
            log.writelines(
                f"{level},{sequence},{stamp},-;{text}\n"
                for sequence, text in enumerate(texts, self._sequence)
            )
        self._sequence += len(texts)


def xid_line(gpu: GpuRow, code: int, *, pid: int | None, name: str, message: str | None) -> str:
    """Return the driver's line for an XID; ``pid`` None: it blames no process."""
    address = f"PCI:{gpu.pci_domain:04x}:{gpu.pci_bus:02x}:{gpu.pci_device:02x}"
    blamed = f"pid={pid}, name={name}" if pid is not None else "pid='<unknown>', name=<unknown>"
    return f"NVRM: Xid ({address}): {code}, {blamed}, {message or XID_TEXTS.get(code, 'Error')}"


def sxid_line(switch: int, code: int, *, fatal: bool, message: str | None) -> str:
    """Return the line of the NVSwitch driver for an SXid."""
    address = f"PCI:0000:{SWITCH_FIRST_BUS + switch:02x}:00.0"
    severity = "Fatal" if fatal else "Non-fatal"
    text = message or SXID_TEXTS.get(code, "Error")
    return f"nvidia-nvswitch{switch}: SXid ({address}): {code}, {severity}, {text}"
