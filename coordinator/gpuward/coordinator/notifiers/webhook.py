"""Page by signed webhook, as standardwebhooks.com describes it.

The receiver checks the signature over id, timestamp and body, and drops an id that it has seen:
``webhook-id`` is the same on every attempt, so at-least-once delivery is harmless.
"""

from __future__ import annotations

import binascii
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx2
import msgspec
from msgspec import Meta
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from gpuward.coordinator.notifiers.provider import TIMEOUT_S, outcome, trusted
from gpuward.coordinator.page import Message, Outcome, Retry
from gpuward.daemon.config import ConfigError

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock


class WebhookConfig(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="webhook",
):
    """A channel that posts to a URL."""

    name: Annotated[str, Meta(description="What people and rotations call this channel; unique.")]
    url: Annotated[str, Meta(description="Where each page is posted.")]
    secret_file: Annotated[
        str, Meta(description="Path of a file that holds the shared secret, `whsec_...`.")
    ]


class WebhookNotifier:
    """Posts each page to ``url``, signed with ``secret``."""

    def __init__(self, url: str, secret: str, clock: Clock) -> None:
        self._url = url
        self._webhook = Webhook(secret)
        self._clock = clock
        self._client = httpx2.AsyncClient(
            timeout=TIMEOUT_S, follow_redirects=False, verify=trusted()
        )

    async def send(self, message: Message) -> Outcome:
        at = datetime.fromtimestamp(self._clock.wall_s(), UTC)
        body = _body(message, at)
        headers = {
            "content-type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._webhook.sign(message.id, at, body),
        }
        try:
            response = await self._client.post(self._url, content=body, headers=headers)
        except httpx2.HTTPError as error:
            return Retry(f"{type(error).__name__}: {error}")
        return outcome(response.status_code, response.headers.get("retry-after", ""))

    async def close(self) -> None:
        await self._client.aclose()


def create(config: WebhookConfig, clock: Clock) -> WebhookNotifier:
    """Return the notifier that the configuration describes; raises ``ConfigError``."""
    where = f"notifiers.{config.name}"
    if not config.url.startswith(("http://", "https://")):
        raise ConfigError(f"{where}.url: not an http(s) address: {config.url}")
    try:
        secret = Path(config.secret_file).read_text(encoding="ascii").strip()
        return WebhookNotifier(config.url, secret, clock)
    except OSError as error:
        raise ConfigError(f"{where}.secret_file: {config.secret_file}: {error.strerror}") from error
    except (UnicodeDecodeError, binascii.Error, EmptyWebhookSecretError) as error:
        raise ConfigError(
            f"{where}.secret_file: {config.secret_file}: not a base64 secret"
        ) from error


def _body(message: Message, at: datetime) -> str:
    envelope = {"type": "incident.page", "timestamp": at.isoformat(), "data": message}
    return msgspec.json.encode(envelope).decode()
