"""What a service runs, and what counts as a change of it."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from gpuward.agent.engine_build import Build, Running, follow
from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.samplers.engine import EngineSampler

OLD, NEW, NEWER = (Build("llama", version) for version in ("0.11.0", "0.12.0", "0.13.0"))
CHANGED = Running(NEW, OLD, 50.0)


@pytest.mark.parametrize(
    ("known", "live", "expected"),
    [
        pytest.param(None, [], None, id="nothing is known"),
        pytest.param(None, [(NEW, 50.0)], Running(NEW), id="the first is no change"),
        pytest.param(None, [(NEW, 50.0), (OLD, 1.0)], Running(NEW), id="nor are two at first"),
        pytest.param(Running(OLD), [], Running(OLD), id="nobody answers"),
        pytest.param(Running(OLD), [(OLD, 50.0)], Running(OLD), id="a restart"),
        pytest.param(Running(OLD), [(NEW, 50.0)], CHANGED, id="another version"),
        pytest.param(
            Running(OLD),
            [(Build("qwen", "0.11.0"), 50.0)],
            Running(Build("qwen", "0.11.0"), OLD, 50.0),
            id="another model",
        ),
        pytest.param(Running(OLD), [(OLD, 1.0), (NEW, 50.0)], CHANGED, id="a roll-out begins"),
        pytest.param(CHANGED, [(OLD, 1.0), (NEW, 50.0)], CHANGED, id="it goes on"),
        pytest.param(CHANGED, [(NEW, 50.0), (NEW, 60.0)], CHANGED, id="it is over"),
        pytest.param(CHANGED, [(OLD, 70.0)], Running(OLD, NEW, 70.0), id="it is rolled back"),
        pytest.param(
            CHANGED, [(NEW, 50.0), (NEWER, 70.0)], Running(NEWER, NEW, 70.0), id="the next one"
        ),
        pytest.param(Running(OLD), [(Build("llama"), 50.0)], Running(OLD), id="one tells less"),
        pytest.param(Running(Build("llama")), [(NEW, 50.0)], Running(NEW), id="one tells more"),
        pytest.param(Running(OLD), [(Build(), 50.0)], Running(OLD), id="one tells nothing"),
    ],
)
def test_follow(known, live, expected):
    assert follow(known, live) == expected


class Engine:
    """A vLLM that says which version it is."""

    def __init__(self, version, started_s, status=200):
        self.version, self.started_s, self.status = version, started_s, status
        self.asked = []

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        path = re.match(rb"GET (\S+) ", head)[1].decode()
        self.asked.append(path)
        page = (
            f'vllm:num_requests_running{{model_name="org/llama"}} 0\n'
            f"process_start_time_seconds {self.started_s}\n"
        )
        body = (json.dumps({"version": self.version}) if path == "/version" else page).encode()
        status = self.status if path == "/version" else 200
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()
        writer.close()


@pytest.fixture
async def turn(clock, tmp_path):
    """Look so many times at an engine with a sampler that is new, and return the last totals."""

    async def look(engine, times=1):
        server = await asyncio.start_server(engine.answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        config = EngineConfig(service="chat", url=f"http://127.0.0.1:{port}")
        async with server, EngineSampler([config], clock, builds=tmp_path / "b.json") as sampler:
            for second in range(times):
                (totals,) = (await sampler.sample(1_000.0 + second)).services
        return totals

    return look


async def test_a_change_outlives_the_agent(turn):
    """Also where a pod comes back under another address."""
    first = await turn(Engine("0.11.0", 100.0))
    second = await turn(Engine("0.12.0+cu130", 200.0))
    third = await turn(Engine("0.12.0+cu130", 300.0))

    assert (first.model, first.version, first.previous_version) == ("org/llama", "0.11.0", "")
    assert first.changed_wall_s == 0.0
    for totals in (second, third):
        assert (totals.model, totals.version) == ("org/llama", "0.12.0+cu130")
        assert (totals.previous_model, totals.previous_version) == ("org/llama", "0.11.0")
        assert totals.changed_wall_s == 200.0


@pytest.mark.parametrize(
    ("version", "status"),
    [
        pytest.param("0.11.0", 404, id="no such page"),
        pytest.param("<b>", 200, id="no version"),
        pytest.param(["0.11.0"], 200, id="no text"),
        pytest.param("9" * 65, 200, id="too long"),
    ],
)
async def test_what_is_no_version(turn, version, status):
    assert (await turn(Engine(version, 100.0, status))).version == ""


async def test_the_version_is_asked_for_once_a_start(turn):
    engine = Engine("0.11.0", 100.0)
    await turn(engine, times=3)

    assert engine.asked.count("/version") == 1
