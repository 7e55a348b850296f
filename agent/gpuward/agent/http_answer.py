"""Read an HTTP/1.1 answer as it comes in: as little of HTTP as a page takes, and bounded. Pure.

What a server sends is untrusted: head and body have limits, and whatever is not plain HTTP is a
``ValueError``.  Whether the connection can be used again is part of the answer (RFC 9112, 9.3): the
server must not have said otherwise, and where the answer ends must be beyond doubt.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    # Waits for more data at each yield.
    Reading = Generator[None, None, bytes]

HEAD_LIMIT_BYTES = 65_536
BODY_LIMIT_BYTES = 4 << 20
# Statuses that never have a body, whatever their head says.
BODILESS = frozenset({204, 304})
SWITCHING_PROTOCOLS = 101
FIRST_FINAL = 200


@dataclass(frozen=True, slots=True)
class Response:
    """Status and body of an answer."""

    status: int
    body: bytes


class Answer:
    """One answer: fed until ``response`` is there; raises ``ValueError`` where it is none."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._reading = self._read()
        self.began = False
        self.response: Response | None = None
        self._is_lasting = False

    @property
    def keeps_open(self) -> bool:
        """Whether the answer is complete, and the server waits for another request after it."""
        # More than was asked for would be taken for the answer to what is asked next.
        is_clean = self.response is not None and not self._data and not self._ended
        return is_clean and self._is_lasting

    def feed(self, data: bytes | memoryview) -> None:
        """Take in a part of the answer; ``data`` is not kept."""
        self.began = True
        self._data += data
        self._go_on()

    def end(self) -> None:
        """Note that the server has hung up."""
        self._ended = True
        self._go_on()

    def _go_on(self) -> None:
        if self.response is not None:
            return
        try:
            next(self._reading)
        except StopIteration as stop:
            self.response = stop.value

    def _read(self) -> Generator[None, None, Response]:
        status = 0
        while status < FIRST_FINAL:
            version, status, headers = _head((yield from self._until(b"\r\n\r\n")))
            if status == SWITCHING_PROTOCOLS:
                raise ValueError("it wants another protocol")
        options = headers.get("connection", "").lower()
        self._is_lasting = "close" not in options
        if version != "HTTP/1.1":
            self._is_lasting = "keep-alive" in options
        body = yield from self._body(status, headers)
        return Response(status, _decoded(body, headers.get("content-encoding", "")))

    def _body(self, status: int, headers: dict[str, str]) -> Reading:
        if status in BODILESS:
            return b""
        if "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise ValueError(f"transfer encoding {headers['transfer-encoding'][:40]!r}")
            return (yield from self._chunks())
        if "content-length" in headers:
            return (yield from self._exactly(_within_limit(int(headers["content-length"]))))
        while not self._ended:
            _within_limit(len(self._data))
            yield
        return self._cut(_within_limit(len(self._data)))

    def _chunks(self) -> Reading:
        body = bytearray()
        while True:
            line = yield from self._until(b"\r\n")
            size = _within_limit(int(line.partition(b";")[0].strip(), 16))
            if size == 0:
                break
            _within_limit(len(body) + size)
            body += yield from self._exactly(size)
            if (yield from self._until(b"\r\n")):
                raise ValueError("a chunk is longer than it says")
        # Trailers, and the empty line at the end of them.
        while (yield from self._until(b"\r\n")):
            pass
        return bytes(body)

    def _until(self, mark: bytes) -> Reading:
        """Return what comes before ``mark``; both are taken."""
        while (place := self._data.find(mark)) < 0:
            if len(self._data) > HEAD_LIMIT_BYTES:
                raise ValueError(f"more than {HEAD_LIMIT_BYTES} bytes without an end")
            yield from self._more()
        return self._cut(place + len(mark))[:place]

    def _exactly(self, size: int) -> Reading:
        while len(self._data) < size:
            yield from self._more()
        return self._cut(size)

    def _more(self) -> Generator[None, None, None]:
        if self._ended:
            raise ValueError("cut short")
        yield

    def _cut(self, size: int) -> bytes:
        with memoryview(self._data) as data:
            cut = bytes(data[:size])
        del self._data[:size]
        return cut


def _head(data: bytes) -> tuple[str, int, dict[str, str]]:
    first, *lines = data.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("no HTTP/1 status line")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        # Said twice is said in one list (RFC 9110, 5.3); two lengths are then no number.
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return version, int(rest[:3]), headers


def _decoded(body: bytes, encoding: str) -> bytes:
    """Return what ``body`` was before it was compressed, which nobody asked the server for."""
    match encoding.lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return _inflated(body)
    raise ValueError(f"content encoding {encoding[:40]!r}")


def _inflated(body: bytes) -> bytes:
    # A few bytes may stand for gigabytes: no more than one too many is ever made of them.
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = stream.decompress(body, BODY_LIMIT_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"not gzip: {error}") from error
    _within_limit(len(plain))
    if not stream.eof:
        raise ValueError("cut short")
    return plain


def _within_limit(size: int) -> int:
    if not 0 <= size <= BODY_LIMIT_BYTES:
        raise ValueError(f"body of {size} bytes; the limit is {BODY_LIMIT_BYTES}")
    return size
