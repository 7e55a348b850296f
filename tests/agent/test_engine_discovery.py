"""Engines that nobody configured: found by process, port and page; everything else left alone."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.engine_port import Listening, listening, listening_in, variables
from gpuward.agent.model import Process, SeriesKey
from gpuward.agent.process_identity import ENGINES, identify
from gpuward.agent.samplers.engine import EngineSampler
from gpuward.agent.samplers.engine_discovery import EngineDiscovery

PROC = Path("/proc")
PAGE = b"vllm:num_requests_running 3\n"


class Server:
    """A server of this very process, which therefore holds its socket."""

    def __init__(self, page=PAGE, *, status=200, host="127.0.0.1", tls=None):
        self.page, self.status, self.host, self.tls = page, status, host, tls
        self.asked = []

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(re.match(rb"(.*) HTTP", head)[1].decode())
        assert b"authorization" not in head.lower()
        length = len(self.page)
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (self.status, length))
        writer.write(self.page)
        await writer.drain()
        writer.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self.answer, self.host, 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    def process(self, **changed):
        facts = {"engine": "vllm", "model": "llama", "port": self.port, "gpus": ("GPU-1",)}
        return Process("vllm:llama", os.getpid(), 500, **{**facts, **changed})


def discovery(processes, configured=(), proc_root=PROC, **settings):
    return EngineDiscovery(configured, proc_root=proc_root, processes=lambda: processes, **settings)


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", id="loopback"),
        pytest.param("0.0.0.0", "127.0.0.1", id="every address"),
        pytest.param("127.0.0.2", "127.0.0.2", id="another address of ours"),
        pytest.param("::1", "[::1]", id="IPv6"),
    ],
)
async def test_an_engine_is_found(host, reached):
    """Under its model's name, by one GET of its page."""
    async with Server(host=host) as server:
        found = await discovery([server.process()]).engines(0.0)

    url = f"http://{reached}:{server.port}"
    assert found == (EngineConfig(service="llama", url=url, kind="vllm"),)
    assert server.asked == ["GET /metrics"]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"engine": ""}, id="no engine"),
        pytest.param({"engine": "tensorrt"}, id="an engine without a page"),
        pytest.param({"port": 0}, id="no port"),
        pytest.param({"port": 1}, id="nobody listens there"),
    ],
)
async def test_other_processes_are_not_spoken_to(changed):
    async with Server() as server:
        found = await discovery([server.process(**changed)]).engines(0.0)

    assert found == ()
    assert server.asked == []


async def test_a_port_that_another_process_holds_is_not_spoken_to():
    """A command line may name the port; who listens there is somebody else."""
    async with Server() as server:
        # Our parent does not hold what we hold.
        stranger = replace(server.process(), pid=os.getppid())
        found = await discovery([stranger]).engines(0.0)

    assert found == ()
    assert server.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_a_configured_engine_is_left_to_its_configuration(host):
    """However its address is written: it is not watched twice, under two names."""
    async with Server() as server:
        name = f"[{host}]" if ":" in host else host
        configured = EngineConfig(service="chat", url=f"http://{name}:{server.port}")
        found = await discovery([server.process()], [configured]).engines(0.0)

    assert found == ()
    assert server.asked == []


async def test_a_configured_engine_at_an_address_of_this_host():
    """A server that listens everywhere is the same by each of the host's addresses."""
    async with Server(host="0.0.0.0") as server:
        configured = EngineConfig(service="chat", url=f"http://{own_address()}:{server.port}")
        found = await discovery([server.process()], [configured]).engines(0.0)

    assert found == ()


def own_address():
    """Return an address of this host; connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


async def test_another_network_namespace_is_left_alone(tmp_path):
    """A container's port 8000 is not ours."""
    (tmp_path / "self" / "ns").mkdir(parents=True)
    (tmp_path / "self" / "ns" / "net").symlink_to("net:[1]")
    (tmp_path / str(os.getpid())).symlink_to(PROC / str(os.getpid()))
    async with Server() as server:
        found = await discovery([server.process()], proc_root=tmp_path).engines(0.0)

    assert found == ()
    assert server.asked == []


@pytest.mark.parametrize(
    ("page", "status"),
    [
        pytest.param(b"up 1\n", 200, id="another page"),
        pytest.param(b"sglang:num_running_reqs 1\n", 200, id="another engine's"),
        pytest.param(b"", 401, id="a key is wanted"),
        pytest.param(b"vllm:num_requests_running x\n", 200, id="no page"),
    ],
)
async def test_a_refusal_is_tried_again_ever_less_often(page, status):
    """After a minute, two, four; said once."""
    async with Server(page, status=status) as server:
        one = discovery([server.process()])
        asked = []
        with capture_logs() as logs:
            for second in range(0, 600, 10):
                assert await one.engines(float(second)) == ()
                asked.append(len(server.asked))

    assert [10 * at for at in range(1, 60) if asked[at] > asked[at - 1]] == [60, 180, 420]
    assert [entry["event"] for entry in logs] == ["engine.not_readable"]


async def test_what_is_refused_may_become_readable():
    """An engine that still loads its model."""
    async with Server(b"", status=503) as server:
        one = discovery([server.process()])
        before = await one.engines(0.0)
        server.page, server.status = PAGE, 200
        after = await one.engines(60.0)

    assert (before, [engine.service for engine in after]) == ((), ["llama"])


async def test_an_engine_without_processes_is_gone_after_a_minute():
    async with Server() as server:
        processes = [server.process()]
        one = discovery(processes)
        await one.engines(0.0)
        processes.clear()
        still = await one.engines(60.0)
        gone = await one.engines(70.0)

    assert (len(still), gone) == (1, ())


async def test_the_first_process_is_looked_at_at_once():
    """A scan lasts some seconds, and learns of processes in its second turn."""
    async with Server() as server:
        processes = []
        one = discovery(processes)
        before = await one.engines(0.0)
        processes.append(server.process())
        after = await one.engines(1.0)

    assert (len(before), len(after)) == (0, 1)


async def test_ranks_of_one_server_are_one_engine():
    async with Server() as server:
        ranks = [server.process(rank=f"TP{rank}") for rank in range(4)]
        found = await discovery(ranks).engines(0.0)

    assert len(found) == 1
    assert len(server.asked) == 1


async def test_no_more_than_sixteen_are_watched():
    """Four trials a look; a node of more engines configures them."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(Server()) for _ in range(18)]
        one = discovery([server.process() for server in servers])
        found = [len(await one.engines(10.0 * look)) for look in range(7)]

    assert found == [4, 8, 12, 16, 16, 16, 16]


async def test_what_is_found_is_watched(clock):
    """Its replica has series; when it is gone they end."""
    async with Server() as server:
        processes = [server.process()]
        sampler = EngineSampler([], clock, discovery(processes))
        key = SeriesKey(
            "replica_requests_running", service="llama", endpoint=f"127.0.0.1:{server.port}"
        )
        first = {one.key: one.value for one in (await sampler.sample(0.0)).samples}
        assert [engine.service for engine in sampler.engines] == ["llama"]
        processes.clear()
        await sampler.sample(10.0)
        last = await sampler.sample(80.0)

    assert first[key] == 3.0
    assert (last.samples, last.services, sampler.engines) == ((), (), ())


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Container:
    """A network namespace at the other end of a cable, as a pod's is."""

    # Tests that run beside these have nets of their own.
    net, net_ipv6 = f"10.213.{os.getpid() % 250}", f"fd00:213:{os.getpid():x}:"
    numbers = count()

    def __init__(self, stack):
        self.name = f"gw{os.getpid()}-{next(self.numbers)}"
        made = subprocess.run(
            ["ip", "netns", "add", self.name], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"no network namespace can be made here: {made.stderr}")
        stack.callback(subprocess.run, ["ip", "netns", "del", self.name], check=True)
        # Short names: the kernel keeps 15 letters of an interface's.
        ip("link", "add", self.name, "type", "veth", "peer", "eth0", "netns", self.name)
        for host, inside in (
            (f"{self.net}.1/30", f"{self.net}.2/30"),
            (f"{self.net_ipv6}:1/64", f"{self.net_ipv6}:2/64"),
        ):
            ip("addr", "add", host, "dev", self.name, "nodad")
            ip("-n", self.name, "addr", "add", inside, "dev", "eth0", "nodad")
        ip("link", "set", self.name, "up")
        ip("-n", self.name, "link", "set", "eth0", "up")
        ip("-n", self.name, "link", "set", "lo", "up")

    async def serve(self, stack, script, host):
        """Run an engine inside; returns what is known of its process."""
        script.write_text(SERVE.replace("PORT", "8000").replace("127.0.0.1", host))
        words = [sys.executable, str(script), "serve", "org/llama"]
        server = await asyncio.create_subprocess_exec(
            "nsenter", f"--net=/run/netns/{self.name}", *words, stdout=asyncio.subprocess.PIPE
        )
        stack.push_async_callback(server.wait)
        stack.callback(server.kill)
        assert await server.stdout.readline() == b"ready\n"
        return replace(identify(server.pid, PROC), gpus=("GPU-1",))


@pytest.mark.parametrize(
    ("host", "urls"),
    [
        pytest.param("0.0.0.0", [f"http://{Container.net}.2:8000"], id="every address"),
        # asyncio's servers, and so uvicorn's, do not take IPv4 there.
        pytest.param("::", [f"http://[{Container.net_ipv6}:2]:8000"], id="every address of IPv6"),
        pytest.param(
            f"{Container.net}.2", [f"http://{Container.net}.2:8000"], id="the container's address"
        ),
        pytest.param("127.0.0.1", [], id="its loopback, which nobody else reaches"),
    ],
)
async def test_an_engine_in_a_container(tmp_path, host, urls):
    """By an address of the container that leads to it."""
    async with AsyncExitStack() as stack:
        process = await Container(stack).serve(stack, tmp_path / "vllm", host)
        found = await discovery([process]).engines(0.0)

    assert [engine.url for engine in found] == urls
    assert all(engine.service == "org/llama" for engine in found)


async def test_two_containers_with_one_address(tmp_path):
    """From here it leads to one of them: only that one is asked, whoever is looked at first."""
    async with AsyncExitStack() as stack:
        near, far = Container(stack), Container(stack)
        reached = await near.serve(stack, tmp_path / "vllm", "0.0.0.0")
        other = replace(await far.serve(stack, tmp_path / "vllm", "0.0.0.0"), model="other")
        with capture_logs() as logs:
            lost = await discovery([other]).engines(0.0)
        found = await discovery([other, reached]).engines(0.0)

    assert lost == ()
    assert "arrives" in logs[0]["reason"]
    assert [engine.service for engine in found] == ["org/llama"]


@pytest.mark.parametrize(
    "configured",
    [
        pytest.param(f"http://{Container.net}.2:8000", id="its address"),
        pytest.param("http://localhost:8000", id="a port of the host"),
    ],
)
async def test_a_configured_engine_in_a_container(tmp_path, configured):
    """By its own address, or by the port under which it is published on the host."""
    async with AsyncExitStack() as stack:
        process = await Container(stack).serve(stack, tmp_path / "vllm", "0.0.0.0")
        one = discovery([process], [EngineConfig(service="chat", url=configured)])

        assert await one.engines(0.0) == ()


SERVE = """
import asyncio
async def serve(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\nvllm:num_requests_running 3\\n")
    writer.close()
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", PORT) as server:
        print("ready", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


async def test_a_real_process(tmp_path):
    """From the command line that /proc shows to the page: nobody is told anything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path / "vllm"
    script.write_text(SERVE.replace("PORT", str(port)))
    words = [sys.executable, str(script), "serve", "org/llama", "--port", str(port)]
    server = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        assert await server.stdout.readline() == b"ready\n"
        process = replace(identify(server.pid, PROC), gpus=("GPU-1",))
        found = await discovery([process]).engines(0.0)
    finally:
        server.kill()
        await server.wait()

    url = f"http://127.0.0.1:{port}"
    assert found == (EngineConfig(service="org/llama", url=url, kind="vllm"),)


@pytest.mark.parametrize("verify_certificates", [True, False])
async def test_an_engine_behind_tls(certificate, clock, verify_certificates):
    """Whoever signed for itself is watched only where the configuration says so."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    async with Server(tls=tls) as server:
        looking = discovery([server.process(is_tls=True)], verify_certificates=verify_certificates)
        with capture_logs() as logs:
            found = await looking.engines(0.0)
        async with EngineSampler((), clock, looking) as sampler:
            batch = await sampler.sample(1.0)

    running = [s.value for s in batch.samples if s.key.signal == "replica_requests_running"]
    if verify_certificates:
        assert (found, running) == ((), [])
        assert [entry["event"] for entry in logs] == ["engine.not_readable"]
        assert "TLS: self-signed certificate" in logs[0]["reason"]
    else:
        assert [engine.url for engine in found] == [f"https://127.0.0.1:{server.port}"]
        assert running == [3.0]


@pytest.mark.parametrize(
    ("engine", "words", "port"),
    [
        pytest.param("vllm", "vllm serve m --port 9001", 9_001, id="flag"),
        pytest.param("vllm", "vllm serve m --port=9001", 9_001, id="flag and value in one"),
        pytest.param("vllm", "vllm serve m", 0, id="not said"),
        pytest.param("vllm", "vllm serve m --port", 0, id="nothing follows"),
        pytest.param("vllm", "vllm serve m --port x", 0, id="no number"),
        pytest.param("vllm", "vllm serve m --port 65536", 0, id="too large"),
        pytest.param("vllm", "vllm serve m --port \u0663", 0, id="another script"),
        pytest.param("vllm", "vllm serve m --portal 9001", 0, id="another flag"),
        pytest.param("vllm", "vllm serve m -p 9001", 0, id="another engine's flag"),
        pytest.param("tgi", "text-generation-launcher -p 81", 81, id="short flag"),
        pytest.param("triton", "tritonserver --http-port 1 --metrics-port 2", 2, id="the page's"),
        pytest.param("tensorrt", "trtexec --port 5", 0, id="an engine without a page"),
    ],
)
def test_port_in(engine, words, port):
    assert listening_in(engine, words.split(" ")) == Listening(port)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        pytest.param("vllm", "--ssl-certfile /c --ssl-keyfile /k", id="vLLM"),
        pytest.param("sglang", "--ssl-certfile=/c", id="SGLang"),
        pytest.param("llama.cpp", "--ssl-cert-file /c", id="llama.cpp"),
    ],
)
def test_who_has_a_certificate_speaks_tls(engine, words):
    assert listening_in(engine, words.split(" ")).is_tls
    assert not listening_in("triton", words.split(" ")).is_tls


@pytest.mark.parametrize(
    ("engine", "told", "environment", "expected"),
    [
        pytest.param("tgi", 0, {"PORT": "80"}, Listening(80), id="TGI's image"),
        pytest.param("tgi", 81, {"PORT": "80"}, Listening(81), id="a flag is stronger"),
        pytest.param("tgi", 0, {"PORT": "tcp://10.0.0.1:80"}, Listening(3_000), id="Kubernetes'"),
        pytest.param("llama.cpp", 0, {"LLAMA_ARG_PORT": "81"}, Listening(81), id="llama.cpp"),
        pytest.param(
            "llama.cpp",
            0,
            {"LLAMA_ARG_SSL_CERT_FILE": "/c"},
            Listening(8_080, is_tls=True),
            id="with a certificate",
        ),
        pytest.param("vllm", 0, {"VLLM_PORT": "1", "PORT": "2"}, Listening(8_000), id="vLLM"),
        pytest.param("tensorrt", 0, {"PORT": "2"}, Listening(), id="an engine without a page"),
    ],
)
def test_what_is_set_by_variables(engine, told, environment, expected):
    """vLLM's VLLM_PORT is where its ranks meet, and no other engine has one."""
    known = {name: value for name, value in environment.items() if name in variables(engine)}

    assert listening(engine, Listening(told), known) == expected


def test_variables_of_a_process(tmp_path):
    """Of an environment, which holds secrets, nothing else is kept."""
    folder = tmp_path / "77"
    folder.mkdir()
    (folder / "stat").write_text("77 (text-generation) S 1 " + "0 " * 17 + "500 0 0\n")
    (folder / "cmdline").write_bytes(b"text-generation-launcher\0--model-id\0m\0")
    (folder / "environ").write_bytes(b"HF_TOKEN=hf_secret\0PORT=80\0")
    found = identify(77, tmp_path)

    assert (found.engine, found.port, found.is_tls) == ("tgi", 80, False)
    assert "secret" not in str(found)


def test_default_ports():
    """Of the engines that have a page; the names are those of process identities."""
    named = {engine.name: listening(engine.name, Listening(), {}).port for engine in ENGINES}

    assert named == {
        "vllm": 8_000,
        "sglang": 30_000,
        "tgi": 3_000,
        "trtllm": 8_000,
        "triton": 8_002,
        "triton-python": 0,
        "tensorrt": 0,
        "llama.cpp": 8_080,
    }
