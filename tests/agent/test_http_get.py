"""Fetching pages: every way a server may end one or misbehave, and a connection that lasts."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.http_answer import Answer, Response
from gpuward.agent.http_get import HttpClient, HttpError

MIB = 1 << 20
ZIPPED = gzip.compress(b"hello", mtime=0)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def served(answer, *, timeout_s=200.0, hang_up=True):
    """Return what a client makes of a server that says ``answer`` and perhaps hangs up."""
    asked = []
    release = asyncio.Event()

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if not hang_up:
            await release.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = HttpClient(f"http://127.0.0.1:{port}/base/")
        try:
            return await client.get("/metrics?a=b", timeout_s=timeout_s), asked
        finally:
            client.close()
            release.set()


ANSWERS = [
    pytest.param(HELLO, Response(200, b"hello"), id="length"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
        Response(200, b"hello"),
        id="chunked",
    ),
    pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhello", Response(200, b"hello"), id="until the end"),
    pytest.param(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Response(503, b""), id="refused"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
        % (len(ZIPPED), ZIPPED),
        Response(200, b"hello"),
        id="compressed though not asked to",
    ),
    pytest.param(b"HTTP/1.1 204 No\r\n\r\n", Response(204, b""), id="no body by its nature"),
    pytest.param(b"HTTP/1.1 103 Wait\r\nX: y\r\n\r\n" + HELLO, Response(200, b"hello"), id="hints"),
]


@pytest.mark.parametrize(("answer", "response"), ANSWERS)
async def test_get(answer, response):
    """Status and body are what the server said."""
    found, asked = await served(answer)

    assert found == response
    assert asked[0].startswith(b"GET /base/metrics?a=b HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(("answer", "response"), ANSWERS)
@given(st.lists(st.integers(1, 200), max_size=8))
def test_it_does_not_matter_in_which_pieces_an_answer_comes(answer, response, cuts):
    """Down to one byte at a time."""
    places = sorted({min(cut, len(answer)) for cut in cuts} or range(1, len(answer)))
    reader = Answer()
    for begin, end in zip([0, *places], [*places, len(answer)], strict=True):
        reader.feed(answer[begin:end])
    if reader.response is None:
        reader.end()

    assert reader.response == response


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(b"", "not an HTTP answer", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP answer", id="another protocol"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", "not an HTTP answer", id="no status"),
        pytest.param(b"HTTP/1.1 101 Go\r\n\r\n", "another protocol", id="switches"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "cut short", id="cut in its body"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", "cut short", id="cut in its head"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\n", "limit", id="length too large"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "limit", id="negative"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "not an HTTP answer",
            id="two lengths",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "encoding 'gzip'", id="packed"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400001\r\n",
            "limit",
            id="chunk too large",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"200000\r\n" + bytes(2 * MIB) + b"\r\n") * 3,
            "limit",
            id="too many chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "not an HTTP answer",
            id="no chunk",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
            "longer than it says",
            id="chunk longer than it says",
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(4 * MIB + 1), "limit", id="endless body"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
            + gzip.compress(bytes(4 * MIB + 1)),
            "limit",
            id="four MiB out of four kB",
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + ZIPPED[:-4],
            "cut short",
            id="half",
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\nhello", "not gzip", id="not packed"
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Encoding: br\r\n\r\nhello",
            "content encoding 'br'",
            id="another packing",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + bytes(70_000), "not an HTTP answer", id="endless head"
        ),
    ],
)
async def test_misbehaviour_is_one_error(answer, reason):
    """Whatever a server sends, the outcome is an answer or an error that names the address."""
    with pytest.raises(HttpError, match=f"^http://127.0.0.1:.*/base/metrics.*{reason}"):
        await served(answer)


async def test_silence_ends():
    """A server that accepts and says nothing costs the time limit, no more."""
    with pytest.raises(HttpError, match=r"no answer within 0\.05 s"):
        await served(b"HTTP/1.1 200 OK\r\n", timeout_s=0.05, hang_up=False)


async def test_nobody_listens():
    """The system's own words, with the address."""
    with pytest.raises(HttpError, match=r"http://127\.0\.0\.1:1/: "):
        await HttpClient("http://127.0.0.1:1").get("/", timeout_s=200.0)


class Server:
    """Says on each connection what it was told to; ``talks`` are the requests on each."""

    def __init__(self, *scripts):
        self._scripts = list(scripts)
        self.talks = []
        self._talking = []

    async def serve(self, reader, writer):
        script, talk = self._scripts[len(self.talks)], []
        self.talks.append(talk)
        self._talking.append(asyncio.current_task())
        for answer in script:
            head = await reader.readuntil(b"\r\n\r\n")
            talk.append(head.split()[1].decode())
            if answer is None:
                # A reset and no farewell, as from a process that was killed.
                linger = struct.pack("ii", 1, 0)
                told = writer.get_extra_info("socket")
                told.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.close()
                return
            writer.write(answer)
        with contextlib.suppress(ConnectionError):
            # Until the client has left.
            await reader.read()
        writer.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.client = HttpClient(f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}")
        return self

    async def __aexit__(self, *_):
        self.client.close()
        self._server.close()
        # All that were begun end: the client holds no connection any more.
        await asyncio.gather(*self._talking)

    async def get(self, path, timeout_s=200.0):
        return await self.client.get(path, timeout_s=timeout_s)


async def test_one_connection_serves_all():
    async with Server([HELLO, HELLO, HELLO]) as server:
        for path in ("/1", "/2", "/3"):
            assert await server.get(path) == Response(200, b"hello")

    assert server.talks == [["/1", "/2", "/3"]]


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(
            HELLO.replace(b"\r\nContent", b"\r\nConnection: close\r\nContent"), id="it says so"
        ),
        pytest.param(HELLO.replace(b"HTTP/1.1", b"HTTP/1.0"), id="an old protocol"),
        pytest.param(HELLO + b"HTTP/1.1 200 OK\r\n", id="more than was asked for"),
    ],
)
async def test_a_connection_that_cannot_be_used_again_is_not(last):
    async with Server([last], [HELLO]) as server:
        assert (await server.get("/1")).body == b"hello"
        assert (await server.get("/2")).body == b"hello"

    assert server.talks == [["/1"], ["/2"]]


async def test_an_answer_to_nothing_is_not_taken_for_the_next():
    """What comes unasked ends the connection: a page must be of now."""
    stale = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"
    async with Server([HELLO], [HELLO]) as server:
        await server.get("/1")
        (transport,) = [server.client._connection._transport]
        protocol = transport.get_protocol()
        protocol.get_buffer(-1)[: len(stale)] = stale
        protocol.buffer_updated(len(stale))

        assert (await server.get("/2")).body == b"hello"

    assert server.talks == [["/1"], ["/2"]]


async def test_a_server_that_hung_up_meanwhile_is_asked_anew():
    """It may close what is idle: over a new connection the same request is made once more."""
    async with Server([HELLO, None], [HELLO]) as server:
        await server.get("/1")

        assert (await server.get("/2")).body == b"hello"

    assert server.talks == [["/1", "/2"], ["/2"]]


async def test_a_server_that_ended_is_asked_anew():
    """Its end has been seen before the next request: no question is lost on it."""
    async with Server([HELLO], [HELLO]) as server:
        await server.get("/1")
        server.client._connection._transport.get_protocol().eof_received()
        server.client._connection._transport.close()

        assert (await server.get("/2")).body == b"hello"

    assert server.talks == [["/1"], ["/2"]]


async def test_twice_is_enough():
    """A server that hangs up on every request is an error, not a loop."""
    async with Server([HELLO, None], [None], [HELLO]) as server:
        await server.get("/1")
        with pytest.raises(HttpError, match="not an HTTP answer"):
            await server.get("/2")

        assert server.talks == [["/1", "/2"], ["/2"]]
        assert (await server.get("/3")).body == b"hello"


async def test_half_an_answer_is_not_asked_for_again():
    """Nor is the connection used on which the rest of it may still come."""
    async with Server([HELLO, HELLO[:-2]], [HELLO]) as server:
        await server.get("/1")
        with pytest.raises(HttpError, match=r"no answer within 0\.05 s"):
            await server.get("/2", timeout_s=0.05)

        assert (await server.get("/3")).body == b"hello"

    assert server.talks == [["/1", "/2"], ["/3"]]
