"""What holds a GPU back: the driver's side from the scenario, the requests from a server's page.

The server is this process: it holds the GPU's memory, listens, and answers as vLLM does, so that
the agent itself has to find out whose requests they are.
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass

import pytest

from gpuward.agent.engine_config import EngineConfig

pytestmark = pytest.mark.simulator

HELD_BYTES = 40 << 30
# From when on the server has so many requests running and waiting, and so many tokens a second.
REQUESTS = (
    (0, 20, 0, 2_000),
    # At the ceiling, and more come than it can serve.
    (30, 40, 30, 2_400),
    (150, 20, 0, 2_000),
    # Something holds its loop up.
    (270, 4, 30, 300),
    (540, 20, 0, 2_000),
    # In a collective that never ends.
    (720, 8, 0, 0),
    (820, 20, 0, 2_000),
)


class Server:
    """A vLLM server with one model; ``now_s`` is the drill's."""

    def __init__(self):
        self.now_s = 0.0
        self._tokens, self._told_s = 0.0, 0.0

    def page(self):
        _, running, waiting, speed = next(row for row in REQUESTS[::-1] if row[0] <= self.now_s)
        self._tokens += speed * (self.now_s - self._told_s)
        self._told_s = self.now_s
        figures = {
            "num_requests_running": running,
            "num_requests_waiting": waiting,
            "generation_tokens_total": self._tokens,
        }
        lines = ["process_start_time_seconds 500"]
        lines += [
            f'vllm:{name}{{engine="0",model_name="llama"}} {figures[name]}' for name in figures
        ]
        return "\n".join((*lines, ""))

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = self.page().encode() if re.match(rb"GET /metrics ", head) else b""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()


@pytest.fixture
async def server():
    """Serve on a port of its own; yields the server and how the agent is told of it."""
    it = Server()
    listening = await asyncio.start_server(it.answer, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    yield it, EngineConfig(service="chat", url=f"http://{host}:{port}")
    listening.close()
    await listening.wait_closed()


@dataclass(frozen=True)
class Load:
    """What the page shall show of one phase: how loud, why, and between which seconds.

    ``raised``: the earliest, by the dwell of the kind, and the phase's end; ``cleared``: likewise.
    """

    loud: str
    limiter: str
    verdict: str
    raised: tuple[float, float]
    cleared: tuple[float, float]


LOADS = {
    "gpu.saturated": Load("store", "memory_bandwidth", "saturated", (60, 150), (210, 270)),
    "gpu.stalled": Load("ticket", "host", "stalled", (450, 540), (660, 720)),
    "gpu.wedged": Load("ticket", "none", "wedged", (750, 820), (850, 900)),
}


async def test_what_holds_a_gpu_back(node, server):
    """Saturated, stalled and wedged: each as loud as it should be, by its limiter, and over."""
    requests, engine = server
    async with node("load", engine) as it:
        it.state.take(0, os.getpid(), HELD_BYTES)

        def follow():
            requests.now_s = it.now_s
            return False

        await it.play(900, wanted=follow)

    assert {key for key in it.shown if key[0].startswith(("gpu.", "driver."))} == {
        (kind, 0, 0) for kind in LOADS
    }
    for kind, load in LOADS.items():
        ((way, page),) = it.shown[kind, 0, 0].items()
        why = re.search(r'_load_info\{gpu="[^"]+",limiter="(\w+)",verdict="(\w+)"', page)
        assert (kind, *way, *why.groups()) == (kind, "warn", load.loud, load.limiter, load.verdict)
        assert load.raised[0] <= it.raised_s[kind, 0, 0] < load.raised[1]
        assert load.cleared[0] <= it.cleared_s[kind, 0, 0] < load.cleared[1]
