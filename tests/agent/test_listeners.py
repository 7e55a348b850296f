"""Which sockets listen, and which addresses are the node's own."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.listeners import (
    Listener,
    inodes_of,
    parse_connected,
    parse_listeners,
    parse_local_addresses,
)

# Captured on Linux 6.18, x86-64; one inode and one port changed.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1679 1 00000000d9c5e92a 100 0 0 10 0
   1: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 424886 1 000000005555ddc1 100 0 0 10 0
   2: 0100007F:AC77 0100007F:D612 06 00000000:00000000 03:000005F8 00000000     0        0 0 3 00000000c6890c5d
   3: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0000000000000000 100 0 0 10 0
"""  # noqa: E501 - as the kernel writes it
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000100007F:A271 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 424887 1 000000005555ddc1 100 0 0 10 0
   1: 00000000000000000000000001000000:1F40 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 424888 1 000000005555ddc2 100 0 0 10 0
"""  # noqa: E501 - as the kernel writes it
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        +-- 10.0.7.0/30 2 0 2
           |-- 10.0.7.0
              /24 link UNICAST
           |-- 10.0.7.2
              /32 host LOCAL
           |-- 10.0.7.3
              /32 link UNICAST
        |-- 10.0.7.255
           /32 link BROADCAST
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 04 40 00 82     eth0
"""


def listener(address, port, inode):
    return Listener(ip_address(address), port, inode)


def test_parse_listeners():
    """Listening sockets come first; what comes after a connection is not read."""
    assert list(parse_listeners(TCP.splitlines(keepends=True))) == [
        listener("0.0.0.0", 2024, 1679),
        listener("127.0.0.1", 8000, 424886),
    ]


def test_parse_listeners_of_ipv6():
    """An IPv4 address in IPv6 clothes is the IPv4 address."""
    assert list(parse_listeners(TCP6.splitlines())) == [
        listener("127.0.0.1", 0xA271, 424887),
        listener("::1", 8000, 424888),
    ]


@pytest.mark.parametrize(
    ("address", "port", "peers"),
    [
        pytest.param("127.0.0.1", 0xAC77, [0xD612], id="a connection that just ended"),
        pytest.param("127.0.0.1", 8_000, [], id="who listens is not connected"),
        pytest.param("127.0.0.2", 0xAC77, [], id="another address"),
        pytest.param("127.0.0.1", 0xD612, [], id="the other end"),
    ],
)
def test_parse_connected(address, port, peers):
    assert list(parse_connected(TCP.splitlines(), ip_address(address), port)) == peers


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="empty"),
        pytest.param("  0: 0100007F:1F40", id="cut"),
        pytest.param(TCP.splitlines()[2].replace("0100007F:1F40", "0100007:1F40"), id="7 digits"),
        pytest.param(TCP.splitlines()[2].replace("0100007F:1F40", "0100007F:1F4"), id="port"),
        pytest.param(TCP.splitlines()[2].replace("424886", "-1"), id="negative inode"),
        pytest.param(TCP.splitlines()[2].replace("424886", "9" * 21), id="endless inode"),
    ],
)
def test_parse_listeners_passes_over_what_it_does_not_know(line):
    """A line that is anything else neither counts nor ends the list."""
    good = TCP.splitlines()[1]

    assert list(parse_listeners([line, good])) == [listener("0.0.0.0", 2024, 1679)]


@given(st.lists(st.text() | st.sampled_from(TCP.splitlines() + TCP6.splitlines())))
def test_parse_listeners_of_anything(lines):
    """No text makes it fail, and what it yields is a port and an inode."""
    for found in parse_listeners(lines):
        assert 0 <= found.port <= 65_535
        assert found.inode >= 0


def test_parse_local_addresses():
    """Hosts that are local and on no network's edge, and every IPv6 address."""
    assert parse_local_addresses(FIB_TRIE, IF_INET6) == {
        ip_address("127.0.0.1"),
        ip_address("10.0.7.2"),
        ip_address("::1"),
        ip_address("fd00::2"),
    }


@given(st.text(), st.text())
def test_parse_local_addresses_of_anything(fib_trie, if_inet6):
    """No text makes it fail."""
    parse_local_addresses(fib_trie, if_inet6)


def test_parse_local_addresses_passes_over_what_is_none():
    """Four numbers are an address only below 256."""
    assert parse_local_addresses("|-- 10.0.7.999\n   /32 host LOCAL\n") == frozenset()


ONE, ANY, ANY6 = "10.0.7.2", "0.0.0.0", "::"


@pytest.mark.parametrize(
    ("listeners", "address", "inodes"),
    [
        pytest.param([(ONE, 8000, 1)], ONE, {1}, id="the address itself"),
        pytest.param([(ONE, 8001, 1)], ONE, set(), id="another port"),
        pytest.param([("10.0.7.3", 8000, 1)], ONE, set(), id="another address"),
        pytest.param([(ANY, 8000, 1)], ONE, {1}, id="any address"),
        pytest.param([(ANY6, 8000, 1)], ONE, {1}, id=":: takes IPv4"),
        pytest.param([(ANY, 8000, 1)], "fd00::2", set(), id="0.0.0.0 takes no IPv6"),
        pytest.param([(ANY, 8000, 1), (ONE, 8000, 2)], ONE, {2}, id="the most specific"),
        pytest.param([(ANY6, 8000, 1), (ANY, 8000, 2)], ONE, {2}, id="its own family first"),
        pytest.param([(ANY, 8000, 1), (ANY, 8000, 2)], ONE, {1, 2}, id="a shared port"),
    ],
)
def test_inodes_of(listeners, address, inodes):
    """A connection reaches what is bound most closely."""
    found = inodes_of([listener(*one) for one in listeners], ip_address(address), 8000)

    assert found == inodes
