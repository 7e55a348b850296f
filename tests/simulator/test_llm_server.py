"""The simulated server: what it answers, in whose time, and the command that starts it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.samplers.engine import EngineSampler
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.testing import FakeClock
from gpuward.simulator import http_client
from gpuward.simulator.llm.engine import LlmEngine
from gpuward.simulator.llm.faults import parse
from gpuward.simulator.llm.platforms import PLATFORMS
from gpuward.simulator.llm.server import Server
from gpuward.simulator.llm.traffic import Demand, Traffic
from gpuward.simulator.state import State

GIB = 1 << 30
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


@dataclass(frozen=True)
class Asker:
    """Sends requests to ``address``."""

    address: str

    async def __call__(self, method, path, body=None, *, timeout_s=200.0):
        text = b"" if body is None else json.dumps(body).encode()
        return await http_client.request(self.address, method, path, text, timeout_s=timeout_s)


@asynccontextmanager
async def served(*faults, per_second=0.0):
    """Yield a function that asks the server, while its clock runs as fast as the test can."""
    clock = FakeClock()
    engine = LlmEngine(
        PLATFORMS["h100-llama-8b"],
        Traffic(Demand(per_second), 1),
        faults=[parse(fault) for fault in faults],
        begins_wall_s=clock.wall_s(),
    )
    server = Server(engine, clock)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    address = "{}:{}".format(*listening.sockets[0].getsockname())

    async def pass_time():
        while True:
            await clock.advance(0.01)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(server.run()), asyncio.create_task(pass_time())]
    try:
        yield Asker(address)
    finally:
        for task in tasks:
            task.cancel()
        listening.close()


async def test_a_completion_is_the_same_each_time():
    """Greedy: a prompt has one answer, another prompt another; a longer one begins the same."""
    async with served() as ask:
        answers = [
            json.loads(
                (await ask("POST", "/v1/completions", {"prompt": prompt, "max_tokens": many})).body
            )
            for prompt, many in (("83 17", 8), ("83 17", 8), ("83 18", 8), ("83 17", 12))
        ]

    texts = [answer["choices"][0]["text"] for answer in answers]
    assert 8 == len(texts[0].split()) == answers[0]["usage"]["completion_tokens"]
    assert texts[0] == texts[1] != texts[2]
    assert texts[3].startswith(texts[0])
    assert MODEL == answers[0]["model"]


async def test_a_stream_gives_each_token_when_it_is_there():
    async with served() as ask:
        asked = {"prompt": "83 17", "max_tokens": 4, "stream": True}
        streamed = await ask("POST", "/v1/completions", asked)
        whole = await ask("POST", "/v1/completions", asked | {"stream": False})

    parts = streamed.body.decode().split("\n\n")
    said = [json.loads(part.removeprefix("data: "))["choices"][0] for part in parts[:-2]]
    assert "data: [DONE]" == parts[-2]
    assert 5 == len(said)
    assert "length" == said[-1]["finish_reason"]
    whole_text = json.loads(whole.body)["choices"][0]["text"]
    assert whole_text == "".join(part["text"] for part in said)


async def test_a_request_counts_as_its_users_do():
    """It is on the page like any of the simulated ones."""
    async with served(per_second=2.0) as ask:
        before = (await ask("GET", "/metrics")).body.decode()
        for _ in range(3):
            await ask("POST", "/v1/completions", {"prompt": "x" * 400, "max_tokens": 2})
        after = (await ask("GET", "/metrics")).body.decode()

    assert "vllm:num_requests_running{" in before
    assert before != after
    assert f'model_name="{MODEL}"' in after


async def test_the_agents_sampler_of_engines_reads_it():
    """Over HTTP, as on a node: a replica that is ready, with requests that run and have ended."""
    async with served(per_second=5.0) as ask:
        for _ in range(10):
            await ask("POST", "/v1/completions", {"prompt": "x", "max_tokens": 40})
        config = EngineConfig(service="chat", url=f"http://{ask.address}", kind="vllm")
        async with EngineSampler([config], SystemClock()) as sampler:
            batch = await sampler.sample(100.0)

    said = {sample.key.signal: sample.value for sample in batch.samples}
    assert 1.0 == said["replica_ready"]
    assert said["replica_requests_total"] >= 10
    assert said["replica_requests_running"] > 0
    assert said["replica_inter_tokens_total"] > 400
    assert {"chat"} == {sample.key.service for sample in batch.samples}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("GET", "/health", None, 200, id="health"),
        pytest.param("GET", "/metrics", None, 200, id="page"),
        pytest.param("GET", "/v1/models", None, 200, id="models"),
        pytest.param("GET", "/secrets", None, 404, id="nothing there"),
        pytest.param("POST", "/v1/completions", {"max_tokens": 0}, 400, id="no tokens"),
        pytest.param("POST", "/v1/completions", ["prompt"], 400, id="not a request"),
    ],
)
async def test_statuses(method, path, body, status):
    async with served() as ask:
        reply = await ask(method, path, body)

    assert status == reply.status


async def test_failing_requests_are_answered_with_500():
    async with served("failures=1") as ask:
        # Faults are looked at once a second.
        await ask("GET", "/health")
        replies = [await ask("POST", "/v1/completions", {"prompt": "x"}) for _ in range(3)]

    assert [500] * 3 == [reply.status for reply in replies]


async def test_a_hung_engine_answers_no_request_and_shows_its_page():
    async with served("hang") as ask:
        with pytest.raises(http_client.Unreachable):
            await ask("POST", "/v1/completions", {"prompt": "x"}, timeout_s=0.3)
        page, health = await ask("GET", "/metrics"), await ask("GET", "/health")

    assert (200, 200) == (page.status, health.status)


async def test_corrupt_kernels_answer_with_status_200():
    """The text is another; nothing else tells."""
    asked = {"prompt": "83 17", "max_tokens": 16}
    async with served() as ask:
        healthy = json.loads((await ask("POST", "/v1/completions", asked)).body)
    async with served("corrupt=1") as ask:
        reply = await ask("POST", "/v1/completions", asked)

    said, right = (one["choices"][0]["text"] for one in (json.loads(reply.body), healthy))
    assert 200 == reply.status
    assert right.split() != said.split()
    assert 16 == len(said.split())


async def test_a_page_that_fails_leaves_requests_alone():
    async with served("page_down=status_500") as ask:
        page = await ask("GET", "/metrics")
        answer = await ask("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})
    async with served("page_down") as ask:
        with pytest.raises(http_client.Unreachable):
            await ask("GET", "/metrics")

    assert (500, 200) == (page.status, answer.status)


async def test_nobody_answers_while_the_process_is_away():
    async with served("restart=5") as ask:
        with pytest.raises(http_client.Unreachable):
            await ask("GET", "/health")


def test_the_command():
    """It says where it listens, answers there, and ends with status 0 when told to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, "-m", "gpuward.simulator.llm", "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in child.stderr:
            if "llm.ready" in line:
                break
        reply = asyncio.run(http_client.request(f"127.0.0.1:{port}", "GET", "/health"))
        child.send_signal(signal.SIGTERM)
        status = child.wait(200)
    finally:
        child.kill()
        child.communicate()

    assert (200, 0) == (reply.status, status)


def test_with_a_gpu_it_holds_memory_and_has_a_tap(tmp_path):
    """Nine tenths of the simulated GPU, as an engine takes them; both are gone with it."""
    state = State.create(tmp_path / "state", 1)
    state.gpu(0).memory_total_bytes = 80 * GIB
    state.gpu(0).uuid = b"GPU-00000000-1111-2222-3333-444444444444"
    taps = tmp_path / "tap"
    taps.mkdir()
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "gpuward.simulator.llm"),
            *("--gpu", "0", "--tap-directory", str(taps)),
        ],
        env={"GPUWARD_SIM_STATE": str(tmp_path / "state"), "PATH": "/usr/bin:/bin"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while "llm.ready" not in child.stderr.readline():
            pass
        held, files = state.processes(0), list(taps.iterdir())
        child.send_signal(signal.SIGTERM)
        status = child.wait(200)
    finally:
        child.kill()
        child.communicate()

    assert [child.pid] == [process.pid for process in held]
    assert 70 * GIB < held[0].memory_bytes < 73 * GIB
    assert [".tap"] == sorted({file.suffix for file in files} - {".lock"})
    assert 0 == status
    assert [] == state.processes(0)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        pytest.param(["--fault", "gloom"], "fault 'gloom' is not TROUBLE", id="fault"),
        pytest.param(["--platform", "abacus"], "'abacus' is not one of", id="platform"),
    ],
)
def test_bad_options_end_in_one_line(option, complaint):
    done = subprocess.run(
        [sys.executable, "-m", "gpuward.simulator.llm", *option],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
