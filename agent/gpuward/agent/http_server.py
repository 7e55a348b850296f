"""Answer GET over HTTP/1.1: just enough for Prometheus, a probe and a person with curl.

An exporter's port is reachable by whoever reaches the node, so everything is bounded: open
connections, the size of a request, and the time for it to arrive and for the answer to be taken.
One request a connection: a scrape every few seconds gains nothing from keeping one open, and an
idle client can then hold none.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_CONNECTIONS = 40
MAX_HEAD_BYTES = 8_192
HEAD_WITHIN_S = 5.0
TAKEN_WITHIN_S = 10.0
LINGER_S = 1.0
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer."""

    body: str
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT


class HttpServer:
    """Serves ``routes``: exact paths, each a function that answers without waiting."""

    def __init__(self, routes: Mapping[str, Callable[[], Response]]) -> None:
        self._routes = routes
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        # Connections turned away because too many were open.
        self.refused = 0

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address in use (port 0 takes a free one); raises ``OSError``."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=MAX_HEAD_BYTES)
        if not self._server.sockets:
            # asyncio passes over a socket that cannot be made.
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        bound: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return bound

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= 2 * MAX_CONNECTIONS:
            # Not even a refusal is free.
            self.refused += 1
            writer.transport.abort()
            return
        # Drain then waits until the client has taken everything.
        writer.transport.set_write_buffer_limits(0)
        self._open.add(writer)
        try:
            response, with_body = await self._answer(reader)
            async with asyncio.timeout(TAKEN_WITHIN_S):
                body = response.body.encode()
                # Apart, so that half a megabyte is not copied to stand behind its head.
                writer.write(_head(response, len(body)))
                if with_body:
                    writer.write(body)
                await writer.drain()
            writer.write_eof()
            await _linger(reader)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._open.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[Response, bool]:
        if len(self._open) > MAX_CONNECTIONS:
            self.refused += 1
            return _error(HTTPStatus.SERVICE_UNAVAILABLE), True
        try:
            async with asyncio.timeout(HEAD_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
        except TimeoutError:
            return _error(HTTPStatus.REQUEST_TIMEOUT), True
        return self._route(head.partition(b"\r\n")[0])

    def _route(self, request_line: bytes) -> tuple[Response, bool]:
        words = request_line.decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - RFC 9112, 3
            return _error(HTTPStatus.BAD_REQUEST), True
        method, target, _ = words
        if method not in {"GET", "HEAD"}:
            return _error(HTTPStatus.METHOD_NOT_ALLOWED), True
        answer = self._routes.get(target.partition("?")[0])
        response = _error(HTTPStatus.NOT_FOUND) if answer is None else answer()
        return response, method == "GET"


async def _linger(reader: asyncio.StreamReader) -> None:
    """Read what the client still sends: closing over it would reset away our answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while await reader.read(MAX_HEAD_BYTES):
                pass


def _error(status: HTTPStatus) -> Response:
    return Response(f"{status.phrase}\n", status)


def _head(response: Response, length: int) -> bytes:
    head = (
        f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {length}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode()
