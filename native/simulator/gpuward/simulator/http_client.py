"""Ask an HTTP server on this machine for one thing: a request, a reply, the connection closed.

The simulator depends on no HTTP library, and what its users and its demo ask is this small.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

MAX_REPLY_BYTES = 16 << 20


class Unreachable(Exception):  # noqa: N818 - a condition, not a bug
    """Nobody answered in time, or what answered was not HTTP; the message names the address."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and body of an answer."""

    status: int
    body: bytes


async def request(
    address: str, method: str, path: str, body: bytes = b"", *, timeout_s: float = 5.0
) -> Reply:
    """Send one request to ``address`` ("host:port"); raises ``Unreachable``."""
    host, _, port = address.rpartition(":")
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(head.encode() + body)
                return _parse(await _read(reader))
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        raise Unreachable(f"{method} http://{address}{path}: {error or 'timed out'}") from error


async def _read(reader: asyncio.StreamReader) -> bytes:
    received = bytearray()
    while chunk := await reader.read(65_536):
        received += chunk
        if len(received) > MAX_REPLY_BYTES:
            raise ValueError("the reply is too long")
    return bytes(received)


def _parse(received: bytes) -> Reply:
    """Return the reply; its length is that of the connection.  Raises ``ValueError``."""
    head, blank, body = received.partition(b"\r\n\r\n")
    words = head.partition(b"\r\n")[0].split(b" ", 2)
    if not blank or not words[0].startswith(b"HTTP/1.") or not words[1:]:
        raise ValueError("not an HTTP reply")
    if b"transfer-encoding: chunked" in head.lower():
        body = _unchunk(body)
    return Reply(int(words[1]), body)


def _unchunk(body: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if length == 0:
            return b"".join(parts)
        parts.append(rest[:length])
        body = rest[length + 2 :]
