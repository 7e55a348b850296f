"""Read who a process descends from, beside whom it runs, and which sockets it holds.

Only files that answer while the process hangs in the driver: ``stat``, ``fd``, ``net``, ``ns``,
``cgroup`` and ``task/*/children``, never ``cmdline`` or ``environ``, which wait for its memory map.
So this may run on the agent's event loop, a call at a time: each reads a bounded amount.  Measured
on a virtual machine of two cores: 25 us a ``stat`` or list of children, 6 us a file, 1 ms a
batch of them, 0.15 ms what listens in our own network namespace, 1.3 ms in another.

Links of other users' processes need CAP_SYS_PTRACE; what may not be read is as if it were not.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from gpuward.agent.cgroup_placement import Placement, parse_cgroup
from gpuward.agent.listeners import parse_connected, parse_listeners, parse_local_addresses
from gpuward.agent.process_identity import stat_of
from gpuward.agent.socket_diag import own_listeners

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address, IPv6Address

    from gpuward.agent.listeners import Listener

PROC = Path("/proc")
ANCESTORS = 8
CHILDREN = 64
# A server listens early: its sockets are among the first that it opened.
FILES = 1_024
FILES_AT_ONCE = 128
LISTENERS = 512
CONNECTIONS = 16_384
# Each thread has children of its own.
THREADS = 64
TEXT_LIMIT = 262_144
_SOCKET = "socket:["


def lineage(pid: int, proc_root: Path) -> Iterator[int]:
    """Yield ``pid``, its parent and so on, the nearest first, without the init process."""
    for _ in range(1 + ANCESTORS):
        if pid <= 1:
            return
        yield pid
        stat = stat_of(pid, proc_root)
        pid = 0 if stat is None else stat.parent


def children_of(pid: int, proc_root: Path) -> list[int]:
    """Return the children of all threads of ``pid``; none where the kernel does not list them."""
    threads = islice(_names(proc_root / str(pid) / "task"), THREADS)
    found = (
        int(word)
        for thread in threads
        for word in _text(proc_root / str(pid) / "task" / thread / "children").split()
        if word.isdecimal()
    )
    return list(islice(found, CHILDREN))


def cgroup_mates(pid: int, proc_root: Path, cgroup_root: Path) -> list[int]:
    """Return the processes of the unit or container of ``pid``; none outside of one.

    The root and a login session hold everything that was ever started there.
    """
    text = _text(proc_root / str(pid) / "cgroup")
    path = next((line[3:] for line in text.splitlines() if line.startswith("0::/")), "")
    if parse_cgroup(f"0::{path}") == Placement() or ".." in path.split("/"):
        return []
    words = _text(cgroup_root / path.lstrip("/") / "cgroup.procs").split()
    return [int(word) for word in words[:CHILDREN] if word.isdecimal()]


def network_namespace(pid: int | str, proc_root: Path) -> str:
    """Return a name of the network namespace of ``pid``, or of ourselves (``self``)."""
    return _link(proc_root / str(pid) / "ns" / "net")


def listeners_of(pid: int, proc_root: Path) -> list[Listener]:
    """Return what listens in the network namespace of ``pid``."""
    if proc_root == PROC and network_namespace(pid, PROC) == network_namespace("self", PROC):
        try:
            return list(islice(own_listeners(), LISTENERS))
        except OSError:
            # A kernel without sock_diag, or a sandbox without netlink: then the slow way.
            pass
    found: list[Listener] = []
    for name in ("tcp", "tcp6"):
        try:
            with (proc_root / str(pid) / "net" / name).open(errors="replace") as lines:
                found += islice(parse_listeners(islice(lines, LISTENERS)), LISTENERS)
        except OSError:
            continue
    return found


def connected_ports(
    pid: int, address: IPv4Address | IPv6Address, port: int, proc_root: Path
) -> frozenset[int]:
    """Return the ports that are connected to ``address`` and ``port`` in the namespace of ``pid``.

    A busy server has thousands: 10 ms.
    """
    found: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            with (proc_root / str(pid) / "net" / name).open(errors="replace") as lines:
                found.update(parse_connected(islice(lines, CONNECTIONS), address, port))
        except OSError:
            continue
    return frozenset(found)


def addresses_of(pid: int | str, proc_root: Path) -> frozenset[IPv4Address | IPv6Address]:
    """Return the addresses of the network namespace of ``pid``, or of our own (``self``)."""
    folder = proc_root / str(pid) / "net"
    return parse_local_addresses(_text(folder / "fib_trie"), _text(folder / "if_inet6"))


def sockets_of(pid: int, proc_root: Path) -> Iterator[frozenset[int]]:
    """Yield the inodes of the sockets that ``pid`` holds, a batch of its files at a time."""
    folder = proc_root / str(pid) / "fd"
    names = islice(_names(folder), FILES)
    while batch := list(islice(names, FILES_AT_ONCE)):
        links = [_link(folder / name) for name in batch]
        inodes = [link.removeprefix(_SOCKET).removesuffix("]") for link in links if _SOCKET in link]
        yield frozenset(int(inode) for inode in inodes if inode.isdecimal())


def _names(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name
    except OSError:
        return


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - a thousand of them: a path object costs twice as much
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        with path.open(errors="replace") as file:
            return file.read(TEXT_LIMIT)
    except OSError:
        return ""
