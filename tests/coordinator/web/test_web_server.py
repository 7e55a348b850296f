"""Clients that open connections and never finish a request take none from anybody else."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gpuward.coordinator import web_server

SLOW_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "
SLOW_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx"


async def page(request):
    await request.body()
    if "held" in request.query_params:
        request.app.state.arrived.set()
        await request.app.state.goes_on.wait()
    return PlainTextResponse("here")


@pytest.fixture
async def connect():
    """A running server; the fixture opens connections to it, and has its timer strike at once."""
    app = Starlette(routes=[Route("/", page, methods=["GET", "POST"])])
    app.state.arrived, app.state.goes_on = asyncio.Event(), asyncio.Event()
    server = web_server.WebServer(app)
    host, port = server.bind("127.0.0.1", 0).split(":")
    serving = asyncio.create_task(server.serve())
    writers = []

    async def connect(what):
        reader, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)
        writer.write(what)
        return reader

    def strike():
        for protocol in list(server._server.server_state.connections):
            protocol._look()

    connect.strike, connect.state = strike, app.state
    yield connect
    for writer in writers:
        writer.close()
    server.stop()
    await serving
    server.close()


async def dropped(reader):
    """Return whether the server ends the connection without an answer."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", SLOW_HEAD, SLOW_BODY], ids=["nothing", "head", "body"])
async def test_a_request_that_never_ends_is_dropped(connect, monkeypatch, sent):
    monkeypatch.setattr(web_server, "REQUEST_WITHIN_S", 0.1)

    assert await dropped(await connect(sent))


async def test_more_connections_than_may_be_are_refused(connect, monkeypatch):
    monkeypatch.setattr(web_server, "MAX_CONNECTIONS", 3)
    held = [await connect(SLOW_HEAD) for _ in range(3)]

    assert await dropped(await connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert not any(reader.at_eof() for reader in held)


async def test_a_slow_answer_is_waited_for(connect):
    """Only what the client still owes is timed."""
    reader = await connect(b"GET /?held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await connect.state.arrived.wait()
    for _ in range(3):
        connect.strike()
    connect.state.goes_on.set()

    assert (await reader.read()).endswith(b"here")
