"""What the agent's tests share: a clock that tests move, and a judge around it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading

import pytest

from gpuward.agent.component import Components
from gpuward.agent.judge import Judge
from gpuward.agent.model import Gpu, Process, Sample, SeriesKey
from gpuward.agent.window import Window
from gpuward.daemon.testing import FakeClock


@pytest.fixture(scope="module")
async def one_loop(anyio_backend):
    """Keep one event loop for a module's tests, and for what grpc has to say after the last.

    Its poller outlives a call that was cancelled, and speaks to the loop of that call.
    """
    yield
    await asyncio.sleep(0.2)


class FakeNotifier:
    """Remembers what the supervisor was told."""

    def __init__(self):
        self.told = []

    def ready(self, status):
        self.told.append("ready")

    def watchdog(self):
        self.told.append("watchdog")

    def stopping(self):
        self.told.append("stopping")


@pytest.fixture
def clock():
    return FakeClock(wall_s=1_800_000_000.0, mono_s=1_000.0)


@pytest.fixture
def notifier():
    return FakeNotifier()


@pytest.fixture
def components():
    return Components()


@pytest.fixture
def written():
    """Return a function that waits until the files that are written in the background are there."""

    def wait():
        for thread in threading.enumerate():
            if thread.name.startswith("write "):
                thread.join()

    return wait


@pytest.fixture
def make_judge(clock, notifier, components):
    """Build a judge of node n1 on the fake clock; detectors may be replaced."""

    def make(**changes):
        return Judge(
            node="n1",
            boot_id="boot-1",
            instance="i",
            components=components,
            notifier=notifier,
            **{"clock": clock, **changes},
        )

    return make


@pytest.fixture
def gpu_window():
    """Build the window of one H100 at 1,000 s from what each signal was, oldest value first.

    A list is a series with a value every ``period_s``, the last one ``late_s`` ago; a number is a
    series that never changed.
    """

    def build(signals, *, period_s=1.0, late_s=0.0, lasting_s=300.0, unsupported=()):
        samples = []
        for signal, values in signals.items():
            steady = not isinstance(values, list)
            series = [values] * int(lasting_s / period_s) if steady else values
            first_s = 1_000.0 - late_s - period_s * (len(series) - 1)
            key = SeriesKey(signal, gpu="GPU-1")
            samples += [
                Sample(key, first_s + place * period_s, float(value))
                for place, value in enumerate(series)
            ]
        card = Gpu(
            "GPU-1",
            0,
            "NVIDIA H100 80GB HBM3",
            "00000000:1B:00.0",
            serial="165",
            unsupported=frozenset(unsupported),
        )
        return Window.of(samples, now_s=1_000.0, gpus=(card,))

    return build


@pytest.fixture
def serving_window():
    """Build the window at 1,000 s of GPUs that serve ``chat``, one engine each.

    ``each``: signals of every GPU; ``first``: others of GPU-0; ``service``: signals of the service.
    A number is a steady series, a list its last values, a value a second.
    """

    def series(key, values):
        steady = values if isinstance(values, list) else [values] * 300
        first_s = 1_001.0 - len(steady)
        return [Sample(key, first_s + place, float(value)) for place, value in enumerate(steady)]

    def build(each, *, first=None, service=None, gpus=1, name="NVIDIA H100 80GB HBM3", model="m"):
        cards = tuple(Gpu(f"GPU-{n}", n, name, f"00000000:{n:02X}:00.0") for n in range(gpus))
        processes = tuple(
            Process(f"vllm-{n}", 100 + n, n, (card.uuid,), service="chat", model=model)
            for n, card in enumerate(cards)
        )
        samples = []
        for n, card in enumerate(cards):
            for signal, values in (each | ((first or {}) if n == 0 else {})).items():
                process = f"vllm-{n}" if signal.startswith("process_") else ""
                samples += series(SeriesKey(signal, gpu=card.uuid, process=process), values)
        for signal, values in (service or {}).items():
            samples += series(SeriesKey(signal, service="chat"), values)
        return Window.of(samples, now_s=1_000.0, gpus=cards, processes=processes)

    return build


class LlmServer:
    """An inference server over loopback that does what a test says, with vLLM's counters."""

    def __init__(self):
        # "good", "hang", "drop", or a status to answer with.
        self.mode = "good"
        self.text = "52 94 26"
        self.body = None
        self.streams = True
        self.asked = []
        self.under_way = 0
        self.most_under_way = 0
        # To any other page than /metrics.
        self.get_status = 200
        # What /metrics says; ``None``: there is no such page.
        self.page = None
        self.url = ""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        self.url = f"http://{self.address}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def listen_no_more(self):
        """Refuse connections from here on."""
        await self.__aexit__()

    async def _answer(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if head.startswith("GET /metrics"):
                self._write(writer, 200 if self.page else 404, (self.page or "").encode())
            elif head.startswith("GET"):
                self._write(writer, self.get_status, b"")
            else:
                await self._generate(head, reader, writer)
        except (ConnectionError, EOFError):
            pass
        finally:
            writer.close()

    async def _generate(self, head, reader, writer):
        length = int(head.lower().partition("content-length: ")[2].split()[0])
        self.asked.append((head, json.loads(await reader.readexactly(length))))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.mode == "hang":
                # Until the client has left.
                await reader.read()
            elif self.mode == "good":
                self._write(writer, 200, self.body or self._tokens())
            elif self.mode != "drop":
                self._write(writer, self.mode, b'{"error": {"message": "no"}}')
            await writer.drain()
        finally:
            self.under_way -= 1

    def _tokens(self):
        pieces = [f"{word} " for word in self.text.split()]
        if not self.streams:
            return json.dumps({"model": "m", "choices": [{"text": "".join(pieces)}]}).encode()
        events = [json.dumps({"model": "m", "choices": [{"text": piece}]}) for piece in pieces]
        return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()

    def _write(self, writer, status, body):
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)


@pytest.fixture
async def llm():
    """Serve inference over loopback; see ``LlmServer``."""
    async with LlmServer() as server:
        yield server


@pytest.fixture
def loopback():
    """Let what is under way over loopback come to its end, or to where it hangs."""

    async def settle():
        for _ in range(60):
            await asyncio.sleep(0)

    return settle


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for localhost that nobody has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl (Debian package openssl)")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return folder
