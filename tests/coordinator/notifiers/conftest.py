"""Providers as local servers that answer as their documents say, or worse."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest

from gpuward.coordinator import in_time, notifiers
from gpuward.coordinator.alerts import Alert
from gpuward.coordinator.model import State
from gpuward.coordinator.notifiers import email as mail
from gpuward.coordinator.notifiers import provider
from gpuward.coordinator.notifiers.incident_io import IncidentIoConfig
from gpuward.coordinator.notifiers.opsgenie import OpsgenieConfig
from gpuward.coordinator.notifiers.pagerduty import PagerDutyConfig
from gpuward.coordinator.notifiers.slack import SlackConfig
from gpuward.coordinator.page import Message
from gpuward.daemon.clock import SystemClock

SECRET = "s3cret-of-the-test"
MESSAGE = Message(
    id="inc-1-L1-7",
    dedup_key="inc-1-L1",
    incident_id="1",
    level="L1",
    target="ann",
    severity="SEV2",
    state="open",
    summary="SEV2 chat: 20 % of requests fail since 07:58 UTC",
    reasons=("20 % of 600 requests failed",),
    causes=("vllm strands 11 GiB",),
    action="restart_application",
    url="https://gpuward.test/incidents/1",
    opened_at_s=1_800_000_000.0,
    diagnosis="memory is fragmented, 90% certain",
    supports=("11 GiB are stranded",),
    contradicts=("utilisation is usual",),
    ruled_out=("the driver",),
    suspects=("vllm 0.9 was rolled out",),
    advice="one replica after the other",
)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Server:
    """Gives the answers of a path in turn, the last for ever, and keeps what it was asked."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        self.url = ""
        # Answers instead, where it is set: a provider that remembers.
        self.respond = None

    async def start(self):
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self):
        self._server.close()
        await self._server.wait_closed()

    async def _handle(self, reader, writer):
        try:
            request = await self._read(await reader.readuntil(b"\r\n\r\n"), reader)
            self.requests.append(request)
            answer = self.respond(request) if self.respond else self._next(request.path)
            if callable(answer):
                await answer(writer)
            else:
                writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _next(self, path):
        answers = self.answers.get(path) or self.answers["*"]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def _read(self, head, reader):
        first, *lines = head.decode().splitlines()
        method, target, _ = first.split()
        pairs = (line.split(": ", 1) for line in lines if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        return Request(method, parts.path, dict(parse_qsl(parts.query)), headers, body)


def answer(status, body="", **headers):
    """Return the bytes of an HTTP answer; what is no text is sent as JSON."""
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(data)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


async def endless(writer):
    """Answer 202, and then never stop."""
    writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\n\r\n")
    while True:
        writer.write(b"[" * 65_536)
        await writer.drain()


def alert(**changes):
    values = {
        "id": 1,
        "page_id": 7,
        "incident_id": "1",
        "channel": "w",
        "dedup_key": "inc-1-L1",
        "reference": "",
        "told": State.OPEN,
        "told_version": 1,
        "seen": State.OPEN,
    }
    return Alert(**{**values, **changes})


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Wait longer than the product does: a starved machine is not what these tests are about."""
    monkeypatch.setattr(in_time, "ANSWER_WITHIN_S", 300.0)
    for module in (provider, mail):
        monkeypatch.setattr(module, "TIMEOUT_S", 300.0)


@pytest.fixture
def play():
    """What tests of providers build with."""
    return SimpleNamespace(
        alert=alert, answer=answer, endless=endless, message=MESSAGE, secret=SECRET
    )


@pytest.fixture
async def server():
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def elsewhere():
    """Another host, to which no secret may go."""
    server = Server()
    server.answers["*"] = [answer(202, {"status": "success"})]
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel(tmp_path, server):
    """Return a maker of channels by type, all of them to the one server."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    file, url, opened = str(secret), server.url, []

    def make(kind, clock=None):
        config = {
            "pagerduty": PagerDutyConfig(
                name="w", routing_key_file=file, api_token_file=file, url=url, api_url=url
            ),
            "opsgenie": OpsgenieConfig(name="w", api_key_file=file, url=f"{url}/v2"),
            "incident_io": IncidentIoConfig(
                name="w", alert_source="01SRC", token_file=file, api_key_file=file, url=url
            ),
            "slack": SlackConfig(name="w", channel="C1", token_file=file, url=f"{url}/api"),
        }[kind]
        opened.append(notifiers.create(config, clock or SystemClock()))
        return opened[-1]

    yield make
    for one in opened:
        await one.close()
