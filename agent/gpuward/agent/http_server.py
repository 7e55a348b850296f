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
from http import HTTPStatus
from typing import TYPE_CHECKING

from gpuward.agent.http_message import Request, Response, error, parse_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpuward.agent.web_guard import WebGuard

MAX_CONNECTIONS = 40
MAX_HEAD_BYTES = 8_192
HEAD_WITHIN_S = 5.0
TAKEN_WITHIN_S = 10.0
LINGER_S = 1.0
# Drain waits until the client has taken all but this; of 0 bytes TLS would wait for ever.
UNTIL_TAKEN = 1
# Sooner than any scrape interval, later than it takes to serve all that are open.
RETRY_AFTER = {"Retry-After": "1"}
CHALLENGE = {"WWW-Authenticate": 'Basic realm="gpuward"'}


class HttpServer:
    """Serves ``routes``: exact paths, each a function that answers without waiting."""

    def __init__(self, routes: Mapping[str, Callable[[Request], Response]]) -> None:
        self._routes = routes
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        # Who may ask, and in what encryption; ``None``: anybody, in none.
        self.guard: WebGuard | None = None
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
        self._open.add(writer)
        try:
            writer.transport.set_write_buffer_limits(UNTIL_TAKEN)
            # Begun here and not by the server, so that a handshake counts as a connection.
            if self.guard is not None and (tls := self.guard.tls()) is not None:
                await writer.start_tls(tls, ssl_handshake_timeout=HEAD_WITHIN_S)
                writer.transport.set_write_buffer_limits(UNTIL_TAKEN)
            await self._serve(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._open.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, response = await self._answer(reader)
        async with asyncio.timeout(_taken_within_s(request)):
            head, body = response.encoded(request)
            writer.write(head)
            if request is None or request.method != "HEAD":
                writer.write(body)
            await writer.drain()
        # TLS has no half of an end: its own goodbye reads what the client still sends.
        if writer.can_write_eof():
            writer.write_eof()
            await _linger(reader)

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[Request | None, Response]:
        if len(self._open) > MAX_CONNECTIONS:
            self.refused += 1
            return None, error(HTTPStatus.SERVICE_UNAVAILABLE, RETRY_AFTER)
        try:
            async with asyncio.timeout(HEAD_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
            request = parse_request(head)
        except asyncio.LimitOverrunError:
            return None, error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except TimeoutError:
            return None, error(HTTPStatus.REQUEST_TIMEOUT)
        except ValueError:
            return None, error(HTTPStatus.BAD_REQUEST)
        if self.guard is not None and not await self.guard.lets_in(request):
            return request, error(HTTPStatus.UNAUTHORIZED, CHALLENGE)
        return request, self._route(request)

    def _route(self, request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return error(HTTPStatus.METHOD_NOT_ALLOWED)
        answer = self._routes.get(request.path)
        return error(HTTPStatus.NOT_FOUND) if answer is None else answer(request)


def _taken_within_s(request: Request | None) -> float:
    """Return for how long an answer is offered: nobody takes it once Prometheus has given up."""
    timeout_s = None if request is None else request.scrape_timeout_s
    return TAKEN_WITHIN_S if timeout_s is None else min(TAKEN_WITHIN_S, timeout_s)


async def _linger(reader: asyncio.StreamReader) -> None:
    """Read what the client still sends: closing over it would reset away our answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while await reader.read(MAX_HEAD_BYTES):
                pass
