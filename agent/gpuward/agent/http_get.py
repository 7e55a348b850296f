"""Ask an HTTP/1.1 server on this node for pages, over one connection that stays open; also by TLS.

The agent asks inference engines for text once a second: a new connection each time cost more than
reading the page does, and a client library more memory than the rest of the agent's networking
together.  A server may close what is idle at any time, so a request that gets no answer at all over
a connection used before is made once more over a new one; nothing else is tried twice.

Servers are not asked to compress: on one node packing a page costs its server more than the page
costs on the way.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import cache
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from gpuward.agent.http_answer import Answer, Response

if TYPE_CHECKING:
    from collections.abc import Callable

PORTS = {"http": 80, "https": 443}
# Room for what is received at a time, about a page.  All connections share it, as each takes what
# came out of it at once; to be given new memory for each part costs more than the page.
_RECEIVED = memoryview(bytearray(65_536))


class HttpError(Exception):
    """The page could not be had; the message is one line."""


class SilentError(HttpError):
    """Nobody answered; ``is_listening``: but somebody accepted the connection."""

    def __init__(self, message: str, *, is_listening: bool) -> None:
        super().__init__(message)
        self.is_listening = is_listening


class UnansweredError(ValueError):
    """The server hung up and had said nothing."""


def port_of(url: str) -> int:
    """Return the port of ``url``, the scheme's where it names none."""
    parts = urlsplit(url)
    return parts.port or PORTS.get(parts.scheme, 0)


@cache
def _trust(*, verifies: bool) -> ssl.SSLContext:
    # The authorities of the system take half a megabyte, so that all clients share them.
    context = ssl.create_default_context()
    if not verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class HttpClient:
    """Gets pages of the server at ``url``, one at a time."""

    def __init__(self, url: str, *, verifies: bool = True) -> None:
        """``verifies``: whether a certificate must be one that is trusted here, and of the host."""
        parts = urlsplit(url)
        self._tls = _trust(verifies=verifies) if parts.scheme == "https" else None
        self._url = url.rstrip("/")
        self._host, self._port = parts.hostname or "", port_of(url)
        self._authority, self._path = parts.netloc, parts.path.rstrip("/")
        self._connection: _Connection | None = None
        # Whether the last question reached somebody.
        self._is_connected = False

    async def get(self, path: str, *, timeout_s: float, accept: str = "*/*") -> Response:
        """Return the answer to ``GET path``; redirects are not followed.

        Raises ``HttpError``, of which ``SilentError`` is one.
        """
        url = f"{self._url}{path}"
        request = (
            f"GET {self._path}{path} HTTP/1.1\r\nHost: {self._authority}\r\nAccept: {accept}\r\n"
            "User-Agent: gpuward\r\n\r\n"
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask(request.encode("ascii"))
        except TimeoutError as error:
            raise self._silent(f"{url}: no answer within {timeout_s:g} s") from error
        except socket.gaierror as error:
            raise HttpError(f"{url}: {error.strerror}") from error
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or "failed"
            raise HttpError(f"{url}: TLS: {reason}") from error
        except OSError as error:
            raise self._silent(f"{url}: {error.strerror or error}") from error
        except UnansweredError as error:
            raise self._silent(f"{url}: not an HTTP answer: {error}") from error
        except ValueError as error:
            raise HttpError(f"{url}: not an HTTP answer: {error}") from error

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        if self._connection is not None:
            self._connection.hang_up()
            self._connection = None

    def _silent(self, reason: str) -> SilentError:
        return SilentError(reason, is_listening=self._is_connected)

    async def _ask(self, request: bytes) -> Response:
        if self._connection is not None and self._connection.is_open:
            try:
                return await self._connection.ask(request)
            except UnansweredError:
                # It was being closed as we asked.
                pass
        self._is_connected = False
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(
            _Connection, self._host, self._port, ssl=self._tls
        )
        self._is_connected = True
        return await self._connection.ask(request)


class _Connection(asyncio.BufferedProtocol):
    """A connection on which at most one question is open."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._answer = Answer()
        self._answered: asyncio.Future[Response] | None = None

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    async def ask(self, request: bytes) -> Response:
        """Return the answer; raises ``OSError`` and ``ValueError``."""
        self._answer = Answer()
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answered
        finally:
            # Also when nobody waits any more: the rest of this answer is not that to the next.
            self._answered = None
            if not self._answer.keeps_open:
                self.hang_up()

    def hang_up(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's word
        return _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        if self._answered is None or self._answered.done():
            # Nobody asked: it would be taken for the answer to the next question.
            self.hang_up()
        else:
            self._take(self._answered, lambda: self._answer.feed(_RECEIVED[:nbytes]))

    def eof_received(self) -> None:
        if self._answered is None or self._answered.done():
            return
        if self._answer.began:
            self._take(self._answered, self._answer.end)
        else:
            self._answered.set_exception(UnansweredError("hung up without an answer"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is None or self._answered.done():
            return
        if self._answer.began and exc is not None:
            self._answered.set_exception(exc)
        else:
            self._answered.set_exception(UnansweredError("lost without an answer"))

    def _take(self, answered: asyncio.Future[Response], step: Callable[[], None]) -> None:
        try:
            step()
        except ValueError as error:
            answered.set_exception(error)
        else:
            if self._answer.response is not None:
                answered.set_result(self._answer.response)
