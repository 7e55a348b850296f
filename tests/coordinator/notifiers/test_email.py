"""Mail: one message for a page, the same on every attempt, and each reply of a server judged."""

from __future__ import annotations

import asyncio
import email
import threading
from email.policy import default

import pytest

from gpuward.coordinator import notifiers
from gpuward.coordinator.notifiers.email import EmailConfig
from gpuward.coordinator.page import Refused, Retry, Sent
from gpuward.daemon.config import ConfigError
from gpuward.daemon.testing import FakeClock


class MailServer:
    """Speaks SMTP, with other replies than usual where it is told so."""

    def __init__(self):
        self.replies = {}
        self.mails = []
        self.hangs = asyncio.Event()

    async def start(self):
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        self._server.close()
        await self._server.wait_closed()

    async def _handle(self, reader, writer):
        usual = {"EHLO": "250-me\r\n250 AUTH PLAIN", "DATA": "354 go", "QUIT": "221 bye"}
        try:
            writer.write(f"{self.replies.get('HELLO', '220 me')}\r\n".encode())
            while line := await reader.readline():
                verb = line.decode()[:4].strip().upper()
                reply = self.replies.get(verb, usual.get(verb, "250 ok"))
                if reply is None:
                    self.hangs.set()
                    await reader.read()
                    return
                writer.write(f"{reply}\r\n".encode())
                if verb == "DATA" and reply.startswith("354"):
                    data = await reader.readuntil(b"\r\n.\r\n")
                    self.mails.append(email.message_from_bytes(data[:-5], policy=default))
                    writer.write(f"{self.replies.get('END', '250 queued')}\r\n".encode())
                if verb == "QUIT":
                    return
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def server():
    server = MailServer()
    await server.start()
    yield server
    await server.stop()


def config(port=25, **changes):
    values = {
        "name": "w",
        "server": "127.0.0.1",
        "port": port,
        "sender": "gpuward@site.test",
        "to": ("ann@site.test", "bob@site.test"),
        "security": "none",
    }
    return EmailConfig(**{**values, **changes})


@pytest.fixture
def mail(server):
    return notifiers.create(config(server.port), FakeClock())


async def test_a_page_is_a_mail(mail, server, play):
    assert Sent() == await mail.send(play.message)
    assert Sent() == await mail.send(play.message)

    first, second = server.mails
    assert play.message.summary == first["Subject"]
    assert "ann@site.test, bob@site.test" == first["To"]
    assert ["<inc-1-L1-7@site.test>"] * 2 == [first["Message-ID"], second["Message-ID"]]
    assert "auto-generated" == first["Auto-Submitted"]
    assert "11 GiB are stranded" in first.get_content()


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        pytest.param({"HELLO": "421 busy"}, Retry("status 421: busy"), id="busy"),
        pytest.param({"MAIL": "550 not you"}, Refused("status 550: not you"), id="no sender"),
        pytest.param({"RCPT": "550 unknown"}, Refused("addresses refused: 550, 550"), id="nobody"),
        pytest.param({"RCPT": "451 later"}, Retry("addresses refused: 451, 451"), id="greylisted"),
        pytest.param({"END": "554 spam"}, Refused("status 554: spam"), id="spam"),
        pytest.param({"END": "452 disk full"}, Retry("status 452: disk full"), id="full"),
    ],
)
async def test_replies(mail, server, play, replies, expected):
    server.replies = replies

    assert expected == await mail.send(play.message)


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param({"HELLO": "garbage"}, id="no number"),
        pytest.param({"HELLO": "220 " + "x" * 100_000}, id="a line without an end"),
    ],
)
async def test_a_server_that_speaks_something_else(mail, server, play, replies):
    server.replies = replies

    outcome = await mail.send(play.message)

    assert isinstance(outcome, Retry | Refused)
    assert len(outcome.reason) <= 200


async def test_no_mail_server(play):
    outcome = await notifiers.create(config(1), FakeClock()).send(play.message)

    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("127.0.0.1: ")


async def test_starttls_that_a_server_does_not_know_is_not_left_out(server, play):
    """Without it the password would be for everybody to read."""
    channel = notifiers.create(config(server.port, security="starttls"), FakeClock())

    assert isinstance(await channel.send(play.message), Refused)
    assert [] == server.mails


async def test_a_login_that_fails_says_nothing_of_the_password(tmp_path, server, play):
    (tmp_path / "password").write_text(play.secret)
    server.replies = {"AUTH": f"535 {play.secret} is wrong"}
    channel = notifiers.create(
        config(server.port, user="gpuward", password_file=f"{tmp_path}/password"), FakeClock()
    )

    assert Refused("status 535 to the login") == await channel.send(play.message)


async def test_giving_up_ends_the_thread(mail, server, play):
    """A server that hangs keeps no thread of ours."""
    server.replies = {"MAIL": None}
    sending = asyncio.ensure_future(mail.send(play.message))
    await server.hangs.wait()
    (thread,) = (t for t in threading.enumerate() if t.name == "mail")

    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    await asyncio.get_running_loop().run_in_executor(None, thread.join)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"to": ()}, r"to: empty", id="nobody"),
        pytest.param({"to": ("ann",)}, r"to: not a mail address: 'ann'", id="no address"),
        pytest.param({"to": ("änn@b.test",)}, r"to: not a mail address", id="not ASCII"),
        pytest.param({"sender": "a@b\nBcc: c@d"}, r"sender: not a mail address", id="a header"),
        pytest.param({"server": "mail.test"}, r"security: none is for loopback", id="in the open"),
        pytest.param({"user": "x"}, r"user and password_file go together", id="no password"),
        pytest.param(
            {"user": "x", "password_file": "/none"}, r"password_file: /none: No such", id="no file"
        ),
    ],
)
def test_a_channel_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=rf"notifiers\.w\.?.*{message}"):
        notifiers.create(config(**changes), FakeClock())
