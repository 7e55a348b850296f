"""Channels: what they write, and what each answer of a receiver means."""

from __future__ import annotations

import io
import json
from typing import get_args

import anyio
import pytest
from standardwebhooks import Webhook
from standardwebhooks.exceptions import WebhookVerificationError

from gpuward.coordinator import notifiers
from gpuward.coordinator.notifiers.console import ConsoleNotifier
from gpuward.coordinator.notifiers.file import FileConfig
from gpuward.coordinator.notifiers.provider import outcome
from gpuward.coordinator.notifiers.webhook import WebhookConfig
from gpuward.coordinator.page import Message, Refused, Retry, Sent
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.config import ConfigError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = Message(
    id="inc-1-L1-7",
    dedup_key="inc-1-L1",
    incident_id="1",
    level="L1",
    target="ann",
    severity="SEV2",
    state="open",
    summary="SEV2 chat: requests fail",
    reasons=("20 % fail",),
    causes=("vllm strands 11 GiB",),
    action="restart_application",
    url="http://gpuward.test/incidents/1",
    opened_at_s=1_800_000_000.0,
)


async def test_console():
    stream = io.StringIO()

    assert Sent() == await ConsoleNotifier(stream).send(MESSAGE)
    assert stream.getvalue().startswith("PAGE SEV2 chat: requests fail [L1 -> ann]\n")


async def test_console_that_is_gone():
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    assert Retry("standard output: Broken pipe") == await ConsoleNotifier(Closed()).send(MESSAGE)


async def test_file(tmp_path):
    path = tmp_path / "pages.jsonl"
    channel = notifiers.create(FileConfig(name="f", path=str(path)), SystemClock())

    assert Sent() == await channel.send(MESSAGE)
    assert Sent() == await channel.send(MESSAGE)

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert ["inc-1-L1", "inc-1-L1"] == [line["dedup_key"] for line in lines]


async def test_file_that_cannot_be_written(tmp_path):
    channel = notifiers.create(FileConfig(name="f", path=f"{tmp_path}/none/x"), SystemClock())

    assert Retry(f"{tmp_path}/none/x: No such file or directory") == await channel.send(MESSAGE)


class Receiver:
    """A web server that answers as it is told and keeps what it got."""

    def __init__(self):
        self.answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        self.requests = []
        self.url = ""

    async def serve(self, *, task_status):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            self.url = f"http://127.0.0.1:{port}/hook"
            task_status.started()
            await listener.serve(self._handle)

    async def _handle(self, stream):
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive()
            head, _, body = data.partition(b"\r\n\r\n")
            lines = (line.split(": ", 1) for line in head.decode().splitlines()[1:])
            headers = {name.lower(): value for name, value in lines}
            while len(body) < int(headers["content-length"]):
                body += await stream.receive()
            self.requests.append((headers, body.decode()))
            if self.answer:
                await stream.send(self.answer)


@pytest.fixture
async def receiver():
    receiver = Receiver()
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: receiver.serve(task_status=task_status))
        yield receiver
        group.cancel_scope.cancel()


@pytest.fixture
async def webhook(tmp_path, receiver):
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    config = WebhookConfig(name="w", url=receiver.url, secret_file=str(secret))
    channel = notifiers.create(config, SystemClock())
    yield channel
    await channel.close()


async def test_a_webhook_is_signed(webhook, receiver):
    assert Sent() == await webhook.send(MESSAGE)

    ((headers, body),) = receiver.requests
    payload = Webhook(SECRET).verify(body, _signed(headers))
    assert "incident.page" == payload["type"]
    assert ("inc-1-L1", "ann", "L1") == tuple(
        payload["data"][name] for name in ("dedup_key", "target", "level")
    )
    assert "inc-1-L1-7" == headers["webhook-id"]


async def test_a_changed_body_or_secret_is_noticed(webhook, receiver):
    await webhook.send(MESSAGE)
    ((headers, body),) = receiver.requests

    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace("SEV2", "SEV4"), _signed(headers))
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw").verify(body, _signed(headers))


async def test_every_attempt_has_the_same_id(webhook, receiver):
    receiver.answer = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nretry-after: 7\r\n\r\n"

    assert Retry("status 503", 7.0) == await webhook.send(MESSAGE)
    assert Retry("status 503", 7.0) == await webhook.send(MESSAGE)

    assert 1 == len({headers["webhook-id"] for headers, _ in receiver.requests})


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="hangs up after it took the page"),
        pytest.param(b"garbage\r\n\r\n", id="answers garbage"),
    ],
)
async def test_an_answer_that_is_none_is_tried_again(webhook, receiver, answer):
    """It may have been taken: sent again, and the id makes that harmless."""
    receiver.answer = answer

    assert isinstance(await webhook.send(MESSAGE), Retry)


async def test_nobody_listens(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    config = WebhookConfig(name="w", url="http://127.0.0.1:1/", secret_file=str(secret))
    channel = notifiers.create(config, SystemClock())

    assert isinstance(await channel.send(MESSAGE), Retry)
    await channel.close()


@pytest.mark.parametrize(
    ("status", "retry_after", "expected"),
    [
        (200, "", Sent()),
        (202, "", Sent()),
        (204, "9", Sent()),
        (301, "", Refused("status 301")),
        (400, "", Refused("status 400")),
        (401, "", Refused("status 401")),
        (404, "", Refused("status 404")),
        (408, "", Retry("status 408")),
        (410, "", Refused("status 410")),
        (429, "30", Retry("status 429", 30.0)),
        (429, "86400", Retry("status 429", 300.0)),
        (429, "Tue, 24 Nov 2026 07:28:00 GMT", Retry("status 429")),
        (500, "", Retry("status 500")),
        (503, "-1", Retry("status 503")),
        (599, "", Retry("status 599")),
    ],
)
def test_outcome(status, retry_after, expected):
    assert expected == outcome(status, retry_after)


@pytest.mark.parametrize(
    ("url", "secret", "message"),
    [
        pytest.param("ftp://x", SECRET, "notifiers.w.url: not an http", id="no web address"),
        pytest.param("http://x", None, "notifiers.w.secret_file: .*No such file", id="no secret"),
        pytest.param("http://x", "whsec_", "secret_file: .*not a base64 secret", id="empty secret"),
        pytest.param("http://x", "whsec_a", "secret_file: .*not a base64 secret", id="not base64"),
        pytest.param("http://x", "schlüssel", "secret_file: .*not a base64 secret", id="not ASCII"),
    ],
)
def test_a_webhook_that_cannot_be(tmp_path, url, secret, message):
    path = tmp_path / "secret"
    if secret is not None:
        path.write_text(secret)

    with pytest.raises(ConfigError, match=message):
        notifiers.create(WebhookConfig(name="w", url=url, secret_file=str(path)), SystemClock())


def test_every_configuration_has_its_notifier():
    assert set(get_args(notifiers.NotifierConfig)) == set(notifiers.CREATE)


def _signed(headers):
    return {name: value for name, value in headers.items() if name.startswith("webhook-")}
