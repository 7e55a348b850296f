"""Read which TCP sockets listen where, and which addresses a network namespace has. Pure.

Layouts: proc_pid_net(5) for ``tcp`` and ``tcp6``, ``net/ipv4/fib_trie.c`` for ``fib_trie``,
``net/ipv6/addrconf.c`` for ``if_inet6``.  Lines that are anything else are passed over.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ANY_IPV4 = IPv4Address(0)
ANY_IPV6 = IPv6Address(0)

_SOCKET = re.compile(
    r"\s*\d{1,10}: (?P<address>[0-9A-F]{8}|[0-9A-F]{32}):(?P<port>[0-9A-F]{4})"
    r" [0-9A-F]{8,32}:(?P<peer>[0-9A-F]{4}) (?P<state>[0-9A-F]{2})"
    # Queues, timer, retransmissions, user, timeout.
    r" \S+ \S+ \S+ +\d+ +\d+ (?P<inode>\d{1,20})(?: |$)"
)
_LISTENS = "0A"
_IPV6 = re.compile(r"(?P<address>[0-9a-f]{32}) ")
_LEAF = re.compile(r"\|-- (?P<address>[\d.]{7,15})\n +/32 host LOCAL$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket; ``inode`` is the one that file descriptors link to."""

    address: IPv4Address | IPv6Address
    port: int
    inode: int


def parse_listeners(lines: Iterable[str]) -> Iterator[Listener]:
    """Yield the listening sockets; the kernel lists them first, so the first other ends it.

    Connections come after them, thousands on a busy server: they are not even read.
    """
    for line in lines:
        found = _SOCKET.match(line)
        if found is None:
            continue
        if found["state"] != _LISTENS:
            return
        yield Listener(_address(found["address"]), int(found["port"], 16), int(found["inode"]))


def parse_connected(
    lines: Iterable[str], address: IPv4Address | IPv6Address, port: int
) -> Iterator[int]:
    """Yield the port of the other end of each connection to ``address`` and ``port``."""
    for line in lines:
        found = _SOCKET.match(line)
        if found is None or int(found["port"], 16) != port or found["state"] == _LISTENS:
            continue
        if _address(found["address"]) == address:
            yield int(found["peer"], 16)


def parse_local_addresses(
    fib_trie: str, if_inet6: str = ""
) -> frozenset[IPv4Address | IPv6Address]:
    """Return the addresses that ``fib_trie`` calls local and those of ``if_inet6``."""
    found: set[IPv4Address | IPv6Address] = set()
    for leaf in _LEAF.finditer(fib_trie):
        try:
            found.add(IPv4Address(leaf["address"]))
        except ValueError:
            continue
    for line in if_inet6.splitlines():
        if entry := _IPV6.match(line):
            found.add(IPv6Address(int(entry["address"], 16)))
    return frozenset(found)


def inodes_of(
    listeners: Iterable[Listener], address: IPv4Address | IPv6Address, port: int
) -> frozenset[int]:
    """Return the sockets that a connection to ``address`` reaches: the most specific ones.

    Several processes may share one address and port (``SO_REUSEPORT``).
    """
    by_address: dict[IPv4Address | IPv6Address, set[int]] = {}
    for listener in listeners:
        if listener.port == port:
            by_address.setdefault(listener.address, set()).add(listener.inode)
    # A socket bound to :: takes IPv4 too, unless it was told not to.
    nearest = (address, ANY_IPV4, ANY_IPV6) if address.version == 4 else (address, ANY_IPV6)  # noqa: PLR2004
    return frozenset(next((by_address[one] for one in nearest if one in by_address), ()))


def _address(digits: str) -> IPv4Address | IPv6Address:
    # Words of 32 bits, each in the byte order of the machine.
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    address = ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
