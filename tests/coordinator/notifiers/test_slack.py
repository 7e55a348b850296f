"""Slack: a card is posted, redrawn in place, and holds nothing that Slack would obey."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from gpuward.coordinator.page import Refused, Retry, Sent
from gpuward.daemon.testing import FakeClock

POSTED = {"ok": True, "channel": "C9", "ts": "1700.000100"}


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """chat.postMessage with Block Kit, as documented."""


class Plain(Strict, tag_field="type", tag="plain_text"):
    text: Annotated[str, Meta(min_length=1, max_length=150)]
    emoji: bool


class Mrkdwn(Strict, tag_field="type", tag="mrkdwn"):
    text: Annotated[str, Meta(min_length=1, max_length=3000)]


class Header(Strict, tag_field="type", tag="header"):
    text: Plain


class Section(Strict, tag_field="type", tag="section"):
    text: Mrkdwn | None = None
    fields: Annotated[list[Mrkdwn], Meta(max_length=10)] | None = None


class Card(Strict):
    channel: str
    text: Annotated[str, Meta(max_length=4000)]
    blocks: Annotated[list[Header | Section], Meta(min_length=1, max_length=50)]
    unfurl_links: Literal[False] = False
    ts: str = ""


@pytest.fixture
def slack(channel):
    return channel("slack", FakeClock())


async def test_a_page_is_a_card(slack, server, play):
    server.answers["/api/chat.postMessage"] = [play.answer(200, POSTED)]

    assert Sent("C9 1700.000100") == await slack.send(play.message)

    (request,) = server.requests
    card = msgspec.json.decode(request.body, type=Card)
    assert ("C1", f"Bearer {play.secret}") == (card.channel, request.headers["authorization"])
    assert play.message.summary == card.blocks[0].text.text


async def test_a_card_is_redrawn_in_place(slack, server, play):
    server.answers["/api/chat.update"] = [play.answer(200, POSTED)]
    message = replace(play.message, state="acknowledged", acknowledged_by="Ann")

    assert Sent("C9 1700.000100") == await slack.follow(play.alert(reference="C9 1700.1"), message)

    card = msgspec.json.decode(server.requests[0].body, type=Card)
    assert ("C9", "1700.1") == (card.channel, card.ts)
    assert any("acknowledged by Ann" in field.text for field in card.blocks[1].fields)


async def test_without_a_reference_there_is_no_card(slack, play):
    refused = Refused("Slack did not say which message it is")
    assert refused == await slack.follow(play.alert(), play.message)


async def test_long_and_hostile_text(slack, server, play):
    """Cut to Slack's limits, and escaped: no link, no call of a channel, no half an escape."""
    server.answers["*"] = [play.answer(200, POSTED)]
    evil = "<!channel> <https://evil.test|click> " + "&<>" * 3000
    message = replace(play.message, causes=(evil,), summary="<!here>" * 15, diagnosis=evil)

    await slack.send(message)

    card = msgspec.json.decode(server.requests[0].body, type=Card)
    _, *sections = card.blocks
    texts = [section.text.text for section in sections if section.text]
    *shown, link = texts
    assert not any("<" in text or ">" in text for text in shown)
    assert "<" not in card.text
    assert link == f"<{play.message.url}|Incident in gpuward>"
    assert all(text.count("&") == text.count(";") for text in shown)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(
            (200, {"ok": False, "error": "channel_not_found"}),
            Refused("channel_not_found"),
            id="no",
        ),
        pytest.param(
            (200, {"ok": False, "error": "internal_error"}), Retry("internal_error"), id="its own"
        ),
        pytest.param((200, {"ok": False}), Refused("not ok"), id="no reason"),
        pytest.param((200, "ok"), Retry("status 200 with an unexpected answer"), id="no JSON"),
        pytest.param((500, "<html>"), Retry("status 500"), id="down"),
    ],
)
async def test_answers(slack, server, play, *, answer, expected):
    server.answers["*"] = [play.answer(*answer)]

    assert expected == await slack.send(play.message)


async def test_when_slack_wants_a_pause_nothing_is_sent(slack, server, play):
    server.answers["*"] = [play.answer(429, {"ok": False}, retry_after=30)]

    assert Retry("status 429", 30.0) == await slack.send(play.message)
    assert Retry("its limit of calls is reached", 30.0) == await slack.send(play.message)

    assert 1 == len(server.requests)
