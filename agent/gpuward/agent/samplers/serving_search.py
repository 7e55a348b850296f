"""Look for the process that holds the listening socket of an engine's URL.

Two pods may both listen on port 8000: a loopback URL means the agent's own network namespace, any
other address the namespace that has it.  A port that Docker's proxy publishes on the host leads to
the proxy, which serves nothing: such an engine needs the container's own address.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gpuward.agent.http_get import port_of
from gpuward.agent.listeners import inodes_of
from gpuward.agent.process_tree import (
    addresses_of,
    cgroup_mates,
    children_of,
    lineage,
    listeners_of,
    network_namespace,
    sockets_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from gpuward.agent.engine_config import EngineConfig

# Processes whose files one search looks through.
LOOKS = 256
RESOLVE_WITHIN_S = 2.0
LOOPBACKS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True)
class Target:
    """Where an engine is asked."""

    engine: EngineConfig
    address: IPv4Address | IPv6Address
    port: int


async def targets_of(engines: Iterable[EngineConfig]) -> list[Target]:
    """Return the addresses of all engines; a name that is not known now has none."""
    found = []
    for engine in engines:
        parts = urlsplit(engine.url)
        port = port_of(engine.url)
        found += [
            Target(engine, address, port)
            for address in await _addresses(parts.hostname or "", port)
        ]
    return found


class Search:
    """One search: what it has read, it does not read again."""

    def __init__(self, targets: Sequence[Target], *, proc_root: Path, cgroup_root: Path) -> None:
        self._targets = targets
        self._proc_root = proc_root
        self._cgroup_root = cgroup_root
        # Listening sockets of engines, by network namespace and inode.
        self._wanted: dict[str, dict[int, EngineConfig]] = {}
        self._sockets: dict[int, frozenset[int]] = {}

    def wanted_near(self, pid: int) -> frozenset[int]:
        """Return the listening sockets of engines that ``pid`` could have to do with."""
        return frozenset(self._wanted_near(pid))

    async def by_descent(self, pid: int) -> EngineConfig | None:
        """Return the engine whose socket ``pid`` or the nearest of its ancestors holds."""
        return await self._first(pid, lineage(pid, self._proc_root))

    async def by_neighbours(self, pid: int) -> EngineConfig | None:
        """Return the engine of a child of an ancestor, else of a process of the same cgroup."""
        return await self._first(pid, self._neighbours(pid))

    def _neighbours(self, pid: int) -> Iterator[int]:
        for ancestor in list(lineage(pid, self._proc_root))[1:]:
            yield from children_of(ancestor, self._proc_root)
        yield from cgroup_mates(pid, self._proc_root, self._cgroup_root)

    async def _first(self, pid: int, candidates: Iterable[int]) -> EngineConfig | None:
        # The event loop has its turn before each process, and within each that has many files.
        await asyncio.sleep(0)
        wanted = self._wanted_near(pid)
        if not wanted:
            return None
        for candidate in candidates:
            inodes = (await self._sockets_of(candidate)) & wanted.keys()
            if inodes:
                # A process in front of several services tells nothing about those behind it.
                engines = [wanted[inode] for inode in sorted(inodes)]
                return engines[0] if len({one.service for one in engines}) == 1 else None
        return None

    async def _sockets_of(self, pid: int) -> frozenset[int]:
        if pid not in self._sockets and len(self._sockets) < LOOKS:
            held: set[int] = set()
            for inodes in sockets_of(pid, self._proc_root):
                held |= inodes
                await asyncio.sleep(0)
            self._sockets[pid] = frozenset(held)
        return self._sockets.get(pid, frozenset())

    def _wanted_near(self, pid: int) -> dict[int, EngineConfig]:
        namespace = network_namespace(pid, self._proc_root)
        if not namespace:
            return {}
        if namespace not in self._wanted:
            listeners = listeners_of(pid, self._proc_root)
            wanted = self._wanted[namespace] = {}
            for target in self._reached_in(pid, namespace):
                for inode in inodes_of(listeners, target.address, target.port):
                    wanted.setdefault(inode, target.engine)
        return self._wanted[namespace]

    def _reached_in(self, pid: int, namespace: str) -> list[Target]:
        """Return the targets whose address belongs to the network namespace of ``pid``."""
        is_ours = namespace == network_namespace("self", self._proc_root)
        local = [t for t in self._targets if t.address.is_loopback] if is_ours else []
        others = [t for t in self._targets if not t.address.is_loopback]
        # A node of many pods has long tables of routes: read only for who needs them.
        addresses = addresses_of(pid, self._proc_root) if others else frozenset()
        return local + [t for t in others if t.address in addresses]


async def _addresses(host: str, port: int) -> tuple[IPv4Address | IPv6Address, ...]:
    if host == "localhost":
        return LOOPBACKS
    try:
        address = ip_address(host)
    except ValueError:
        return await _resolved(host, port)
    return LOOPBACKS if address.is_unspecified else (address,)


async def _resolved(host: str, port: int) -> tuple[IPv4Address | IPv6Address, ...]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_WITHIN_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(ip_address(str(entry[4][0])) for entry in found)
