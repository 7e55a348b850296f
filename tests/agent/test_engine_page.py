"""Asking an engine over a real socket: which page it has, who it is, whether it can serve."""

from __future__ import annotations

import asyncio
import re

import pytest

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.http_get import HttpError
from gpuward.agent.samplers.engine_page import EnginePage

VLLM = b"vllm:num_requests_running 3\n"
TRTLLM = b"trtllm_num_requests_running 4\n"


class Server:
    """Answers by path; anything else is not found."""

    def __init__(self, **pages):
        self.pages = {f"/{name.replace('__', '/')}": body for name, body in pages.items()}
        self.asked = []

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        method, path = re.match(rb"(\S+) (\S+) ", head).groups()
        self.asked.append((method.decode(), path.decode()))
        status, body = self.pages.get(path.decode(), (404, b""))
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()
        writer.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()


async def looked(server, times=1, **settings):
    """Return what the last of some looks at ``server`` found, and whether it is ready."""
    page = EnginePage(EngineConfig(service="chat", url=server.url, **settings))
    try:
        for _ in range(times):
            reading = await page.read()
        return reading, await page.is_ready()
    finally:
        page.close()


async def test_an_engine_is_recognised_once():
    """Its health is where its kind has it; nothing but GET is ever sent."""
    async with Server(metrics=(200, VLLM), health=(200, b"")) as server:
        reading, is_ready = await looked(server, times=2)

    assert (reading.kind, reading.figures) == ("vllm", {"requests_running": 3.0})
    assert is_ready
    assert server.asked == [("GET", "/metrics"), ("GET", "/metrics"), ("GET", "/health")]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param((200, b'[{"iter": 1}]'), id="JSON"),
        pytest.param((404, b""), id="not found"),
        pytest.param((200, b"up 1\n"), id="another page"),
    ],
)
async def test_a_page_may_be_elsewhere(first):
    async with Server(metrics=first, prometheus__metrics=(200, TRTLLM)) as server:
        reading, _ = await looked(server)

    assert (reading.kind, reading.figures) == ("trtllm", {"requests_running": 4.0})


async def test_a_known_kind_is_asked_for_its_page_alone():
    async with Server(prometheus__metrics=(200, TRTLLM)) as server:
        await looked(server, kind="trtllm")

    assert [path for _, path in server.asked] == ["/prometheus/metrics", "/health"]


@pytest.mark.parametrize(
    ("settings", "pages", "reason"),
    [
        pytest.param({}, {"metrics": (200, b"up 1\n")}, "no engine that gpuward knows", id="other"),
        pytest.param({}, {}, "no engine that gpuward knows", id="no page"),
        pytest.param({"kind": "vllm"}, {}, "/metrics: status 404", id="not found"),
        pytest.param({"kind": "vllm"}, {"metrics": (401, b"")}, "status 401", id="a key is wanted"),
        pytest.param(
            {"kind": "sglang"}, {"metrics": (200, VLLM)}, "no metric of sglang", id="another engine"
        ),
    ],
)
async def test_what_cannot_be_read_is_said(settings, pages, reason):
    async with Server(**pages) as server:
        with pytest.raises(HttpError, match=f"^http://127.0.0.1:.*{reason}"):
            await looked(server, **settings)


async def test_an_engine_that_has_not_served_may_have_an_empty_page():
    """TGI's counters come with their first event."""
    async with Server(metrics=(200, b""), health=(200, b"")) as server:
        reading, is_ready = await looked(server, kind="tgi")

    assert reading.is_empty
    assert is_ready


async def test_another_engine_at_the_same_address():
    """It is recognised anew at the next look."""
    async with Server(metrics=(200, VLLM)) as server:
        page = EnginePage(EngineConfig(service="chat", url=server.url))
        await page.read()
        server.pages["/metrics"] = (200, b"tgi_queue_size 2\n")
        with pytest.raises(HttpError, match="no metric of vllm"):
            await page.read()
        reading = await page.read()
        page.close()

    assert (reading.kind, reading.figures) == ("tgi", {"requests_waiting": 2.0})


@pytest.mark.parametrize(
    ("status", "is_ready"), [pytest.param(200, True, id="ready"), pytest.param(400, False, id="no")]
)
async def test_health_on_another_port(status, is_ready):
    """Triton's: its page is on a port that has no health."""
    async with (
        Server(metrics=(200, b"nv_inference_request_success 1\n")) as server,
        Server(v2__health__ready=(status, b"")) as api,
    ):
        found = await looked(server, health_url=f"{api.url}/v2/health/ready")

    assert found[1] is is_ready
    assert api.asked == [("GET", "/v2/health/ready")]


async def test_an_engine_without_health_is_ready_while_it_shows_its_page():
    async with Server(metrics=(200, b"nv_inference_request_success 1\n")) as server:
        _, is_ready = await looked(server)

    assert is_ready
    assert server.asked == [("GET", "/metrics")]


async def test_a_model_of_several():
    page = b'nv_inference_request_success{model="a"} 1\nnv_inference_request_success{model="b"} 2\n'
    async with Server(metrics=(200, page)) as server:
        reading, _ = await looked(server, kind="triton", model="b")

    assert (reading.figures, reading.model) == ({"requests_total": 2.0}, "b")
