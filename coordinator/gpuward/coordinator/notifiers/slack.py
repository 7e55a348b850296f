"""Page to a Slack channel: a card for each page, redrawn in place as the incident goes on.

A bot token, not an incoming webhook: what a webhook posts cannot be changed.  Slack answers 200
with ``ok: false`` where it refuses.  It has no key against a second post of the same, so a post
whose answer was lost may stand there twice.  Sources: docs.slack.dev, chat.postMessage and
chat.update; about one message a second and channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from gpuward.coordinator.model import State
from gpuward.coordinator.notifiers.provider import (
    Pace,
    Provider,
    checked_url,
    failure,
    read_secret,
)
from gpuward.coordinator.notifiers.slack_card import card
from gpuward.coordinator.page import Message, Outcome, Refused, Retry, Sent

if TYPE_CHECKING:
    from gpuward.coordinator.alerts import Alert
    from gpuward.daemon.clock import Clock

OK = 200
POSTS_A_SECOND = 1
# What Slack says of its own trouble; every other error is about the request or the token.
COME_BACK = frozenset(
    {
        "fatal_error",
        "internal_error",
        "rate_limited",
        "ratelimited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)


class SlackConfig(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="slack",
):
    """A channel that posts a card to Slack and keeps it up to date."""

    name: Annotated[str, Meta(description="What people and rotations call this channel; unique.")]
    channel: Annotated[str, Meta(description="Id of the Slack channel, `C...`; the bot is in it.")]
    token_file: Annotated[
        str, Meta(description="Path of a file with a bot token, `xoxb-...`, scope `chat:write`.")
    ]
    url: Annotated[str, Meta(description="Where the Web API is.")] = "https://slack.com/api"


class Slack:
    """Posts cards to one channel and redraws them."""

    tells = frozenset[State]()

    def __init__(self, provider: Provider, channel: str) -> None:
        self._provider = provider
        self._channel = channel

    async def send(self, message: Message) -> Outcome:
        post = {"channel": self._channel, "unfurl_links": False, **card(message)}
        return await self._call("/chat.postMessage", post)

    async def follow(self, alert: Alert, message: Message) -> Outcome:
        channel, _, ts = alert.reference.partition(" ")
        if not ts:
            return Refused("Slack did not say which message it is")
        return await self._call("/chat.update", {"channel": channel, "ts": ts, **card(message)})

    async def close(self) -> None:
        await self._provider.close()

    async def _call(self, method: str, body: dict[str, Any]) -> Outcome:
        answer = await self._provider.ask("POST", method, body)
        if isinstance(answer, Retry):
            return answer
        said = answer.read(_Said)
        if answer.status != OK or said is None:
            return failure(answer)
        if said.ok:
            # The channel that a message is in may be another than the name it was posted by.
            return Sent(f"{said.channel} {said.ts}")
        return Retry(said.error) if said.error in COME_BACK else Refused(said.error or "not ok")


def create(config: SlackConfig, clock: Clock) -> Slack:
    """Return the notifier that the configuration describes; raises ``ConfigError``."""
    where = f"notifiers.{config.name}"
    token = read_secret(config.token_file, f"{where}.token_file")
    url = checked_url(config.url, f"{where}.url")
    pace = Pace(POSTS_A_SECOND, 1.0, clock)
    return Slack(Provider(url, {"authorization": f"Bearer {token}"}, pace), config.channel)


class _Said(msgspec.Struct, frozen=True):
    ok: bool
    error: str = ""
    channel: str = ""
    ts: str = ""
