"""Ask an HTTP/1.1 server on this node for a page: as little of HTTP as that takes, and bounded.

The agent asks inference engines for text once a second; a client library costs more memory than the
rest of the agent's networking together.  What the server sends is untrusted: head and body have
limits, and whatever is not plain HTTP raises ``HttpError``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

HEAD_LIMIT_BYTES = 65_536
BODY_LIMIT_BYTES = 4 << 20
DEFAULT_PORT = 80


class HttpError(Exception):
    """The page could not be had; the message is one line."""


@dataclass(frozen=True, slots=True)
class Response:
    """Status and body of an answer."""

    status: int
    body: bytes


async def get(url: str, *, timeout_s: float, accept: str = "*/*") -> Response:
    """Return the answer to ``GET url``; redirects are not followed; raises ``HttpError``."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _get(url, accept)
    except TimeoutError as error:
        raise HttpError(f"{url}: no answer within {timeout_s:g} s") from error
    except OSError as error:
        raise HttpError(f"{url}: {error.strerror or error}") from error
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise HttpError(f"{url}: not an HTTP answer: {error}") from error


async def _get(url: str, accept: str) -> Response:
    parts = urlsplit(url)
    host = parts.hostname or ""
    reader, writer = await asyncio.open_connection(
        host, parts.port or DEFAULT_PORT, limit=HEAD_LIMIT_BYTES
    )
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: {accept}\r\n"
            "User-Agent: gpuward\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        await writer.drain()
        status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
        return Response(status, await _body(reader, headers))
    finally:
        # Not awaited: a peer that does not close must not hold us.
        writer.close()


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = data.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("no HTTP/1 status line")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(rest[:3]), headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _chunks(reader)
    if "content-length" in headers:
        return await reader.readexactly(_within_limit(int(headers["content-length"])))
    body = bytearray()
    while chunk := await reader.read(HEAD_LIMIT_BYTES):
        _within_limit(len(body) + len(chunk))
        body += chunk
    return bytes(body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0].strip(), 16)
        if size == 0:
            return bytes(body)
        _within_limit(len(body) + size)
        body += await reader.readexactly(size)
        await reader.readexactly(2)


def _within_limit(size: int) -> int:
    if not 0 <= size <= BODY_LIMIT_BYTES:
        raise ValueError(f"body of {size} bytes; the limit is {BODY_LIMIT_BYTES}")
    return size
