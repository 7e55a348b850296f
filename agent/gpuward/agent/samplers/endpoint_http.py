"""Send one request and time its answer, over a connection of its own.

A new connection each time, unlike for pages: whether the endpoint still accepts one is half of the
question.  What hangs is cancelled by whoever waits, which closes the connection; an engine ends the
request of a client that has left.  Certificates are checked by the standard library's rules.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gpuward.agent.http_answer import Answer
from gpuward.agent.samplers.endpoint_request import has_token

if TYPE_CHECKING:
    from gpuward.agent.samplers.endpoint_request import Written
    from gpuward.daemon.clock import Clock

PORTS = {"http": 80, "https": 443}
READ_BYTES = 65_536
# A hundred times what so few tokens take.
ANSWER_LIMIT_BYTES = 1 << 18
# What stands around a token's text, and may come in two pieces.
ONE_TOKEN_BYTES = 64


class Lost(Enum):
    """Why there is no answer."""

    # Nobody listens, there is no such name, or no way there.
    UNREACHABLE = "nobody listens there"
    # The certificate is not trusted, or there is none.
    TLS = "the certificate is not accepted"
    BROKEN = "hung up before the answer was complete"


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, with the seconds until its end and its first token, if it has one."""

    status: int
    body: bytes
    seconds: float
    first_token_seconds: float | None


async def send(
    url: str, request: Written, *, key: str, clock: Clock, limit_bytes: int = ANSWER_LIMIT_BYTES
) -> Answered | Lost:
    """Return the answer; without a bound in time: whoever waits cancels."""
    parts = urlsplit(url)
    port = parts.port or PORTS[parts.scheme]
    began_s = clock.mono_s()
    try:
        reader, writer = await asyncio.open_connection(
            parts.hostname, port, ssl=_trust() if parts.scheme == "https" else None
        )
    except ssl.SSLError:
        return Lost.TLS
    except (OSError, UnicodeError):
        return Lost.UNREACHABLE
    try:
        writer.write(_head(url, request, key) + request.body)
        return await _answer(reader, began_s, clock, limit_bytes)
    except (OSError, ValueError):
        return Lost.BROKEN
    finally:
        # Not closed but dropped: one that hangs does not say goodbye either.
        writer.transport.abort()


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _head(url: str, request: Written, key: str) -> bytes:
    parts = urlsplit(url)
    authorization = f"Authorization: Bearer {key}\r\n"
    content = f"Content-Type: application/json\r\nContent-Length: {len(request.body)}\r\n"
    return (
        f"{'POST' if request.body else 'GET'} {parts.path.rstrip('/') + request.path or '/'}"
        f" HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: gpuward\r\nAccept: */*\r\n"
        f"{content if request.body else ''}"
        f"{authorization if key else ''}"
        "Connection: close\r\n\r\n"
    ).encode("ascii")


async def _answer(
    reader: asyncio.StreamReader, began_s: float, clock: Clock, limit_bytes: int
) -> Answered:
    """Return the answer; raises ``OSError`` and ``ValueError``."""
    answer, size, tail, first_token_s = Answer(), 0, b"", None
    while answer.response is None:
        data = await reader.read(READ_BYTES)
        size, tail = size + len(data), tail[-ONE_TOKEN_BYTES:] + data
        if size > limit_bytes:
            raise ValueError("longer than such an answer is")
        if first_token_s is None and has_token(tail):
            first_token_s = clock.mono_s()
        if data:
            answer.feed(data)
        else:
            answer.end()
    return Answered(
        status=answer.response.status,
        body=answer.response.body,
        seconds=clock.mono_s() - began_s,
        first_token_seconds=None if first_token_s is None else first_token_s - began_s,
    )
