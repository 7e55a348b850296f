"""Read what `gpuward agent doctor` judges: this machine's permissions, folders, clocks, processes.

Each fact that cannot be had is ``None``; nothing is changed, nothing is asked of the driver here.
"""

from __future__ import annotations

import ctypes
import grp
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.config import host_port

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# linux/capability.h.
CAP_SYS_PTRACE, CAP_SYSLOG = 19, 34
# adjtimex(2): the clock is not synchronised.
TIME_ERROR = 5
# Larger than struct timex on any Linux.
_TIMEX_BYTES = 512
CONNECTED_WITHIN_S = 3.0
MAPS_LIMIT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder: permission bits, names of owner's uid and group."""

    mode: int
    uid: int
    group: str


def capabilities(proc_root: Path) -> int:
    """Return the effective capabilities of this process as bits; 0 where nobody can say."""
    for line in _text(proc_root / "self" / "status").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value.strip(), 16)
    return 0


def folder(path: Path) -> Folder | None:
    """Return what the folder at ``path`` is, ``None`` where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return Folder(status.st_mode & 0o7777, status.st_uid, group)


def free_bytes(path: Path) -> int | None:
    """Return what is free for us where ``path`` is, or would be made."""
    there = next((place for place in (path, *path.parents) if place.exists()), path)
    try:
        status = os.statvfs(there)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def clock_is_synchronised() -> bool | None:
    """Return whether the kernel holds the clock for synchronised; ``None``: it does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR


def program_names(proc_root: Path) -> frozenset[str]:
    """Return the names of all processes in sight, 15 characters at most (TASK_COMM_LEN)."""
    names = (_text(place / "comm").strip() for place in proc_root.glob("[0-9]*"))
    return frozenset(filter(None, names))


def has_torch(proc_root: Path, pid: int) -> bool | None:
    """Return whether the process has torch loaded; ``None`` when its maps may not be read."""
    try:
        with (proc_root / str(pid) / "maps").open("rb") as maps:
            return b"libtorch" in maps.read(MAPS_LIMIT_BYTES)
    except OSError:
        return None


def hides_processes(proc_root: Path) -> bool:
    """Return whether /proc is mounted so that it hides other users' processes."""
    mounts = (line.split() for line in _text(proc_root / "self" / "mounts").splitlines())
    options = [words[3] for words in mounts if len(words) > 3 and words[1] == "/proc"]  # noqa: PLR2004
    return any(_hides(option) for option in options)


def connects(address: str) -> str:
    """Return an empty string when somebody listens at ``host:port``, else why not."""
    try:
        with socket.create_connection(host_port(address), CONNECTED_WITHIN_S):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def is_free(address: str) -> bool:
    """Return whether ``host:port`` can be listened on now."""
    host, port = host_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError:
            return False
    return True


def _hides(options: str) -> bool:
    values: Iterable[str] = (o.partition("=")[2] for o in options.split(",") if "hidepid=" in o)
    return any(value not in ("0", "off") for value in values)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
