"""Say under which addresses an engine's process can be asked, and whether one leads to it.

In our own network namespace, whoever listens everywhere is asked over loopback.  A container with a
namespace of its own is asked at the container's addresses.  Those repeat from host to host, and not
each leads there from here, so before anything is sent a connection is opened, and the container's
own table of connections must show it.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from gpuward.agent.process_tree import connected_ports

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gpuward.agent.listeners import Listener

LOOPBACK = IPv4Address("127.0.0.1")
LOOPBACK_IPV6 = IPv6Address("::1")
CONNECT_WITHIN_S = 1.0


def own_addresses(
    listeners: Iterable[Listener], port: int
) -> tuple[IPv4Address | IPv6Address, ...]:
    """Return the addresses under which ``port`` of our own namespace can be reached."""
    bound = (one.address for one in listeners if one.port == port)
    return tuple(dict.fromkeys(_over_loopback(address) for address in bound))


def container_addresses(
    listeners: Iterable[Listener], port: int, addresses: frozenset[IPv4Address | IPv6Address]
) -> tuple[IPv4Address | IPv6Address, ...]:
    """Return the addresses under which ``port`` may be reached from outside of its namespace.

    ``addresses``: those that the namespace has, and our own has not.
    """
    reachable = sorted(
        (one for one in addresses if not (one.is_loopback or one.is_link_local)),
        key=lambda one: (one.version, int(one)),
    )
    bound = {one.address for one in listeners if one.port == port}
    return tuple(one for one in reachable if one in bound or _is_everywhere(bound, one.version))


async def arrives(pid: int, address: IPv4Address | IPv6Address, port: int, proc_root: Path) -> bool:
    """Return whether a connection to ``address`` ends in the network namespace of ``pid``."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            _, writer = await asyncio.open_connection(str(address), port)
    except (OSError, TimeoutError):
        return False
    try:
        # Translation on the way may change our address; the port it keeps where it can.
        return writer.get_extra_info("sockname")[1] in connected_ports(
            pid, address, port, proc_root
        )
    finally:
        writer.transport.abort()


def _over_loopback(bound: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if not bound.is_unspecified:
        return bound
    return LOOPBACK if isinstance(bound, IPv4Address) else LOOPBACK_IPV6


def _is_everywhere(bound: Iterable[IPv4Address | IPv6Address], version: int) -> bool:
    """Return whether a socket takes what comes to any address; one bound to :: takes IPv4 too."""
    return any(one.is_unspecified and one.version >= version for one in bound)
