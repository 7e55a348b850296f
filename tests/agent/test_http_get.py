"""Fetching a page: every way a server may end it, and every way it may misbehave."""

from __future__ import annotations

import asyncio

import pytest

from gpuward.agent.http_get import HttpError, Response, get

MIB = 1 << 20


async def served(answer, *, timeout_s=5.0, hang_up=True):
    """Return what ``get`` makes of a server that says ``answer`` and perhaps hangs up."""
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
        try:
            return await get(f"http://127.0.0.1:{port}/metrics?a=b", timeout_s=timeout_s), asked
        finally:
            release.set()


@pytest.mark.parametrize(
    ("answer", "response"),
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            Response(200, b"hello"),
            id="length",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            Response(200, b"hello"),
            id="chunked",
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhello", Response(200, b"hello"), id="until the end"),
        pytest.param(
            b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Response(503, b""), id="refused"
        ),
    ],
)
async def test_get(answer, response):
    """Status and body are what the server said."""
    found, asked = await served(answer)

    assert found == response
    assert asked[0].startswith(b"GET /metrics?a=b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nConnection: close\r\n" in asked[0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(b"", "not an HTTP answer", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP answer", id="another protocol"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", "not an HTTP answer", id="no status"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "not an HTTP answer", id="cut"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\n", "limit", id="length too large"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "limit", id="negative"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400001\r\n",
            "limit",
            id="chunk too large",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "not an HTTP answer",
            id="no chunk",
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(4 * MIB + 1), "limit", id="endless body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + bytes(70_000), "not an HTTP answer", id="endless head"
        ),
    ],
)
async def test_misbehaviour_is_one_error(answer, reason):
    """Whatever a server sends, the outcome is an answer or an error that names the address."""
    with pytest.raises(HttpError, match=f"^http://127.0.0.1:.*{reason}"):
        await served(answer)


async def test_silence_ends():
    """A server that accepts and says nothing costs the time limit, no more."""
    with pytest.raises(HttpError, match=r"no answer within 0\.05 s"):
        await served(b"HTTP/1.1 200 OK\r\n", timeout_s=0.05, hang_up=False)


async def test_nobody_listens():
    """The system's own words, with the address."""
    with pytest.raises(HttpError, match=r"http://127\.0\.0\.1:1/: "):
        await get("http://127.0.0.1:1/", timeout_s=5.0)
