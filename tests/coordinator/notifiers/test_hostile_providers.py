"""Whatever a provider answers, the outcome is a value, and the secret goes nowhere else."""

from __future__ import annotations

import pytest

from gpuward.coordinator.notifiers.provider import (
    Pace,
    checked_url,
    read_secret,
)
from gpuward.coordinator.page import Refused, Retry
from gpuward.daemon.config import ConfigError
from gpuward.daemon.testing import FakeClock

KINDS = ["pagerduty", "opsgenie", "incident_io", "slack"]
PAGERS = ["pagerduty", "opsgenie", "incident_io"]
HEAD = b"HTTP/1.1 202 Accepted\r\n"


async def hang_up(writer):
    """Take the page, and say nothing."""


HOSTILE = {
    "hangs up after it took the page": hang_up,
    "speaks no HTTP": b"garbage\r\n\r\n",
    "breaks off": HEAD + b"content-length: 99\r\n\r\n{",
    "nested for ever": HEAD + b"content-length: 100000\r\n\r\n" + b"[" * 100_000,
    "not UTF-8": HEAD + b'content-length: 14\r\n\r\n{"status":"\xff"}',
    "another type": HEAD + b"content-length: 2\r\n\r\n[]",
    "says that it is compressed": HEAD
    + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b",
    "a header without an end": HEAD + b"x: " + b"y" * 300_000,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", HOSTILE)
async def test_an_answer_that_is_none_is_tried_again(channel, server, play, kind, answer):
    server.answers["*"] = [HOSTILE[answer]]

    outcome = await channel(kind).send(play.message)

    assert isinstance(outcome, Retry)
    assert play.secret not in outcome.reason


@pytest.mark.parametrize("kind", PAGERS)
@pytest.mark.parametrize("answer", HOSTILE)
async def test_a_look_at_it_tells_nothing(channel, server, play, kind, answer):
    server.answers["*"] = [HOSTILE[answer]]

    assert isinstance(await channel(kind).look(play.alert()), Retry)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_endless_answer_is_left_off(channel, server, play, kind):
    server.answers["*"] = [play.endless]

    assert isinstance(await channel(kind).send(play.message), Retry)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_does_not_carry_the_secret(
    channel, server, elsewhere, play, *, kind, status
):
    server.answers["*"] = [play.answer(status, "", location=f"{elsewhere.url}/v2/enqueue")]

    assert Refused(f"status {status}") == await channel(kind).send(play.message)
    assert [] == elsewhere.requests


@pytest.mark.parametrize("kind", KINDS)
async def test_every_attempt_has_the_same_key(channel, server, play, kind):
    """Taken, and the answer lost: sent again, which does no harm."""
    server.answers["*"] = [hang_up]
    for _ in range(2):
        await channel(kind).send(play.message)

    first, second = server.requests
    assert first.body == second.body


async def test_nobody_listens(channel, server, play):
    await server.stop()

    assert isinstance(await channel("pagerduty").send(play.message), Retry)


async def test_a_pace_is_kept_and_those_sent_away_come_back_one_after_the_other():
    clock = FakeClock()
    pace = Pace(2, 60.0, clock)
    assert [0.0, 0.0] == [pace.take(), pace.take()]

    assert [60.0, 90.0, 120.0] == [pace.take(), pace.take(), pace.take()]

    await clock.advance(59.9)
    assert pace.take() > 0
    await clock.advance(0.1)
    assert [0.0, 0.0] == [pace.take(), pace.take()]
    assert pace.take() > 0


async def test_a_pause_holds_for_all():
    clock = FakeClock()
    pace = Pace(10, 60.0, clock)
    pace.pause(30.0)

    assert 30.0 == pace.take()
    await clock.advance(30.0)
    assert 0.0 == pace.take()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("", "not a secret of one line", id="empty"),
        pytest.param("two words", "not a secret of one line", id="two words"),
        pytest.param("two\nlines", "not a secret of one line", id="two lines"),
        pytest.param("schlüssel", "not a secret of one line", id="not ASCII"),
    ],
)
def test_a_secret_that_cannot_be(tmp_path, content, message):
    """The error names the place, and never what is in the file."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)

    with pytest.raises(
        ConfigError, match=rf"notifiers\.w\.key_file: .*secret: .*{message}"
    ) as error:
        read_secret(str(path), "notifiers.w.key_file")
    assert not content or content not in str(error.value)


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("https://api.test", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost/x", True),
        ("http://[::1]:9/x", True),
        ("http://api.test", False),
        ("http://127.0.0.1.evil.test", False),
        ("https://", False),
        ("ftp://api.test", False),
        ("api.test", False),
    ],
)
def test_where_a_secret_may_go(url, is_good):
    if is_good:
        assert url == checked_url(url, "notifiers.w.url")
        return
    with pytest.raises(ConfigError, match=r"notifiers\.w\.url: "):
        checked_url(url, "notifiers.w.url")
