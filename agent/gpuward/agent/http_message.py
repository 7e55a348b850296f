"""A request and a response of the agent's HTTP server, as values."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from http import HTTPStatus
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpuward.agent.negotiation import takes_gzip

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
SCRAPE_TIMEOUT = "x-prometheus-scrape-timeout-seconds"
# A page of 5,000 series shrinks to a sixteenth in a millisecond; below this it is not worth one.
LEAST_COMPRESSED_BYTES = 4_096
# The quickest: level 6 takes three times as long for a fifth less.
COMPRESSION_LEVEL = 1
GZIP_WINDOW_BITS = 31


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; header names in lower case."""

    path: str
    method: str = "GET"
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def scrape_timeout_s(self) -> float | None:
        """Return how long Prometheus waits, if it said so."""
        try:
            timeout_s = float(self.headers.get(SCRAPE_TIMEOUT, ""))
        except ValueError:
            return None
        return timeout_s if isfinite(timeout_s) and timeout_s > 0 else None


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer."""

    body: str
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def encoded(self, request: Request | None = None) -> tuple[bytes, bytes]:
        """Return head and body as bytes, compressed where ``request`` takes that.

        Apart, so that half a megabyte is not copied to stand behind its head.
        """
        body, headers = self.body.encode(), dict(self.headers)
        if len(body) >= LEAST_COMPRESSED_BYTES:
            headers["Vary"] = "Accept, Accept-Encoding"
            if request is not None and takes_gzip(request.headers.get("accept-encoding", "")):
                gzip = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, GZIP_WINDOW_BITS)
                body = gzip.compress(body) + gzip.flush()
                headers["Content-Encoding"] = "gzip"
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(body)}\r\n{more}"
            "Connection: close\r\n\r\n"
        )
        return head.encode(), body


def error(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response that says its status."""
    return Response(f"{status.phrase}\n", status, headers=headers or {})


def parse_request(head: bytes) -> Request:
    """Return the request of ``head``; raises ``ValueError`` where that is no HTTP/1, RFC 9112.

    Of a header that comes twice, the first is kept.
    """
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - RFC 9112, 3
        raise ValueError("not a request of HTTP/1")
    method, target, _ = words
    path, _, query = target.partition("?")
    headers: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.lower(), value.strip())
    return Request(path, method, query, headers)
