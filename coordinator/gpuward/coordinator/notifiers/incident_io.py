"""Page by incident.io: an HTTP alert source out, alerts and escalations back.

An alert fires or is resolved; that somebody has it is known to the escalation that it started, and
only there.  Sources: docs.incident.io, Alert Events V2, Alerts V2 and Escalations V2.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta

from gpuward.coordinator.alerts import Alert, Sight
from gpuward.coordinator.model import State
from gpuward.coordinator.notifiers.facts import facts
from gpuward.coordinator.notifiers.provider import (
    Pace,
    Provider,
    checked_url,
    failure,
    read_secret,
)
from gpuward.coordinator.page import Message, Outcome, Refused, Retry, Sent, as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.daemon.clock import Clock

ACCEPTED = 202
# Of an API key within a minute; the alert source is kept to the same.
CALLS_A_MINUTE = 1200
# An alert starts one escalation, or one for each route that it takes.
ESCALATIONS_READ = 10
STATES: Mapping[str, State] = MappingProxyType(
    {"acked": State.ACKNOWLEDGED, "resolved": State.RESOLVED}
)
BODY_LIMIT = 512_000


class IncidentIoConfig(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="incident_io",
):
    """A channel that pages by an alert source of incident.io."""

    name: Annotated[str, Meta(description="What people and rotations call this channel; unique.")]
    alert_source: Annotated[str, Meta(description="Id of the HTTP alert source.")]
    token_file: Annotated[
        str, Meta(description="Path of a file with the token of that alert source.")
    ]
    api_key_file: Annotated[
        str,
        Meta(
            description="Path of a file with an API key that may read alerts and escalations; "
            "empty: no acks come back."
        ),
    ] = ""
    url: Annotated[str, Meta(description="Where the API is.")] = "https://api.incident.io"


class IncidentIo:
    """Fires and resolves alerts of one alert source."""

    tells = frozenset({State.RESOLVED})

    def __init__(self, source: Provider, alert_source: str) -> None:
        self._source = source
        self._path = f"/v2/alert_events/http/{quote(alert_source, safe='')}"

    async def send(self, message: Message) -> Outcome:
        return await self._fire(_event(message, message.dedup_key, "firing"))

    async def follow(self, alert: Alert, message: Message) -> Outcome:
        if message.state != State.RESOLVED or alert.told is State.RESOLVED:
            return Sent()
        return await self._fire(_event(message, alert.dedup_key, "resolved"))

    async def close(self) -> None:
        await self._source.close()

    async def _fire(self, event: dict[str, Any]) -> Outcome:
        answer = await self._source.ask("POST", self._path, event)
        if isinstance(answer, Retry):
            return answer
        said = answer.read(_Taken)
        if answer.status == ACCEPTED and said is not None and said.status == "success":
            return Sent()
        return failure(answer, said.message if said else "")


class IncidentIoReadBack(IncidentIo):
    """Also reads back who took the escalations that the alerts started."""

    def __init__(self, source: Provider, alert_source: str, api: Provider) -> None:
        super().__init__(source, alert_source)
        self._api = api

    async def look(self, alert: Alert) -> Sight | Retry | Refused:
        query = {"deduplication_key[is]": alert.dedup_key, "page_size": "1"}
        said = await self._api.read("/v2/alerts", _Alerts, query)
        if isinstance(said, Retry | Refused):
            return said
        if not said.alerts:
            return Sight(State.OPEN)
        return await self._escalations(said.alerts[0].id)

    async def close(self) -> None:
        await super().close()
        await self._api.close()

    async def _escalations(self, alert_id: str) -> Sight | Retry | Refused:
        query = {"alert[one_of]": alert_id, "page_size": str(ESCALATIONS_READ)}
        said = await self._api.read("/v2/escalations", _Escalations, query)
        if isinstance(said, Retry | Refused):
            return said
        taken = (e for e in said.escalations if e.status in STATES)
        first = next(taken, None)
        return Sight(State.OPEN) if first is None else Sight(STATES[first.status], first.by())


def create(config: IncidentIoConfig, clock: Clock) -> IncidentIo:
    """Return the notifier that the configuration describes; raises ``ConfigError``."""
    where = f"notifiers.{config.name}"
    token = read_secret(config.token_file, f"{where}.token_file")
    url = checked_url(config.url, f"{where}.url")
    api_key = ""
    if config.api_key_file:
        api_key = read_secret(config.api_key_file, f"{where}.api_key_file")
    source = _provider(url, token, clock)
    if not api_key:
        return IncidentIo(source, config.alert_source)
    return IncidentIoReadBack(source, config.alert_source, _provider(url, api_key, clock))


def _provider(url: str, token: str, clock: Clock) -> Provider:
    pace = Pace(CALLS_A_MINUTE, 60.0, clock)
    return Provider(url, {"authorization": f"Bearer {token}"}, pace)


def _event(message: Message, dedup_key: str, status: str) -> dict[str, Any]:
    event = {
        "title": message.summary,
        "status": status,
        "deduplication_key": dedup_key,
        # Markdown there: what is aligned here must stay so.
        "description": f"```\n{as_text(message).replace('```', '')}\n```",
        "source_url": message.url,
        "metadata": {"severity": message.severity, **facts(message)},
    }
    if len(msgspec.json.encode(event)) > BODY_LIMIT:
        event |= {"description": message.url, "metadata": {"severity": message.severity}}
    return event


class _Taken(msgspec.Struct, frozen=True):
    status: str = ""
    message: str = ""


class _Named(msgspec.Struct, frozen=True):
    id: str = ""
    name: str = ""


class _Alerts(msgspec.Struct, frozen=True):
    alerts: list[_Named]


class _Event(msgspec.Struct, frozen=True):
    event: str = ""
    users: list[_Named] | None = None


class _Escalation(msgspec.Struct, frozen=True):
    status: str
    events: list[_Event] | None = None

    def by(self) -> str:
        """Return the name of who acknowledged."""
        acks = (event.users or [] for event in self.events or [] if event.event == "acked")
        return next((user.name for users in acks for user in users if user.name), "")


class _Escalations(msgspec.Struct, frozen=True):
    escalations: list[_Escalation]
