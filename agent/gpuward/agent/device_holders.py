"""Find who has the driver's device files open: a driver that anybody holds cannot be replaced.

It is persistence daemons, display servers, exporters and forgotten notebooks that an upgrade fails
on, and the driver says only that it is in use.  By the descriptors of proc_pid_fd(5): to look at
them waits for nobody, while to read a process's memory map waits for one that hangs in the driver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.process_identity import place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICES = "/dev/nvidia"


@dataclass(frozen=True, slots=True)
class DeviceHolder:
    """A process; ``key``: its unit, pod, container or program, if it still has one."""

    pid: int
    key: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceHolders:
    """By pid; ``hidden``: how many processes this user may not look into."""

    found: tuple[DeviceHolder, ...]
    hidden: int = 0


def device_holders(proc_root: Path) -> DeviceHolders:
    """Return who has a device file of the driver open now."""
    found, hidden = [], 0
    for pid in sorted(int(it.name) for it in proc_root.iterdir() if it.name.isdecimal()):
        try:
            files = tuple(sorted(set(_devices(proc_root / str(pid) / "fd"))))
        except PermissionError:
            hidden += 1
            continue
        except OSError:
            # It has ended.
            continue
        if files:
            who = place(pid, proc_root)
            found.append(DeviceHolder(pid, who.key if who else "", files))
    return DeviceHolders(tuple(found), hidden)


def _devices(folder: Path) -> Iterator[str]:
    for descriptor in folder.iterdir():
        try:
            path = str(descriptor.readlink())
        except FileNotFoundError:
            # Closed meanwhile.
            continue
        if path.startswith(DEVICES):
            yield path
