"""Which sockets listen, as the kernel answers over netlink."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.listeners import Listener, parse_listeners
from gpuward.agent.socket_diag import own_listeners, parse_answers

PLACES = [("127.0.0.1", socket.AF_INET), ("0.0.0.0", socket.AF_INET), ("::1", socket.AF_INET6)]


@pytest.fixture
def servers():
    with ExitStack() as parts:
        yield [
            parts.enter_context(socket.create_server((host, 0), family=family))
            for host, family in PLACES
        ]


def message(kind, body, length=None):
    length = 16 + len(body) if length is None else length
    return struct.pack("=LHHLL", length, kind, 2, 0, 0) + body


def test_of_this_machine(servers):
    """The kernel says the same of a socket here and in ``/proc``, its inode included."""
    found = set(own_listeners())
    ours = {
        Listener(ip_address(host), server.getsockname()[1], os.fstat(server.fileno()).st_ino)
        for server, (host, _) in zip(servers, PLACES, strict=True)
    }
    shown = {
        one
        for name in ("tcp", "tcp6")
        for one in parse_listeners(Path("/proc/self/net", name).read_text().splitlines())
    }

    assert ours <= found
    assert ours <= shown


def test_a_connection_is_no_listener(servers):
    with socket.create_connection(servers[0].getsockname()) as client:
        inode = os.fstat(client.fileno()).st_ino
        found = [listener.inode for listener in own_listeners()]

    assert inode not in found


def test_a_refusal():
    """It says which, by the kernel's own number."""
    with pytest.raises(PermissionError, match="sock_diag: Operation not permitted"):
        list(parse_answers(message(2, struct.pack("=l", -1))))


@given(st.binary(max_size=400) | st.builds(message, st.integers(0, 30), st.binary(max_size=200)))
def test_anything(data):
    """Ends, whatever lengths it claims, and finds nothing beyond what there is room for."""
    try:
        found = list(parse_answers(data))
    except OSError:
        return
    assert len(found) <= len(data) // (16 + 24)
