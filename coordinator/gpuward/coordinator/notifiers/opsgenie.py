"""Page by Opsgenie, or by its successor in Jira Service Management: one API at two addresses.

A request is only taken (202); what became of it is asked for by its id.  An alias names the open
alert, so a page that is sent again counts up and pages nobody twice.  Sources: docs.opsgenie.com,
Alert API; Opsgenie itself ends on 2027-04-05, JSM keeps requests and keys as they are.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta

from gpuward.coordinator.alerts import Alert, Sight
from gpuward.coordinator.model import State
from gpuward.coordinator.notifiers.facts import cut, facts
from gpuward.coordinator.notifiers.provider import (
    Answer,
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

OK = 200
ACCEPTED = 202
NOT_FOUND = 404
CALLS_A_MINUTE = 600
# When to ask what became of a request; then it is unknown, and sent again under its alias.
ASK_AFTER_S = (0.5, 1.0, 2.0)
MESSAGE_LIMIT = 130
DESCRIPTION_LIMIT = 15_000
DETAIL_LIMIT = 1_000
PRIORITY: Mapping[str, str] = MappingProxyType(
    {"SEV1": "P1", "SEV2": "P2", "SEV3": "P3", "SEV4": "P5"}
)
ACTIONS: Mapping[State, str] = MappingProxyType(
    {
        State.OPEN: "unacknowledge",
        State.ACKNOWLEDGED: "acknowledge",
        State.MITIGATED: "acknowledge",
        State.RESOLVED: "close",
    }
)


class OpsgenieConfig(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="opsgenie",
):
    """A channel that pages by Opsgenie or by Jira Service Management."""

    name: Annotated[str, Meta(description="What people and rotations call this channel; unique.")]
    api_key_file: Annotated[
        str, Meta(description="Path of a file with the key of an API integration.")
    ]
    url: Annotated[
        str,
        Meta(
            description="`https://api.eu.opsgenie.com/v2` in the EU, "
            "`https://api.atlassian.com/jsm/ops/integration/v2` for Jira Service Management."
        ),
    ] = "https://api.opsgenie.com/v2"


class Opsgenie:
    """Creates, acknowledges and closes alerts by their alias."""

    tells = frozenset({State.OPEN, State.ACKNOWLEDGED, State.RESOLVED})

    def __init__(self, provider: Provider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock

    async def send(self, message: Message) -> Outcome:
        return await self._request("/alerts", _alert(message))

    async def follow(self, alert: Alert, message: Message) -> Outcome:
        action = ACTIONS[State(message.state)]
        if action == ACTIONS[alert.told]:
            return Sent()
        who = message.resolved_by or message.acknowledged_by
        path = f"/alerts/{quote(alert.dedup_key, safe='')}/{action}?identifierType=alias"
        note = f"by {who} in gpuward" if who else "in gpuward"
        return await self._request(path, {"source": "gpuward", "note": note})

    async def look(self, alert: Alert) -> Sight | Retry | Refused:
        name, kind = (alert.reference, "id") if alert.reference else (alert.dedup_key, "alias")
        path = f"/alerts/{quote(name, safe='')}"
        said = await self._provider.read(path, _Found, {"identifierType": kind})
        if isinstance(said, Retry | Refused):
            return said
        if said.data.status == "closed":
            return Sight(State.RESOLVED, said.data.report.closed_by or "")
        if said.data.acknowledged:
            return Sight(State.ACKNOWLEDGED, said.data.report.acknowledged_by or "")
        return Sight(State.OPEN)

    async def close(self) -> None:
        await self._provider.close()

    async def _request(self, path: str, body: dict[str, Any]) -> Outcome:
        answer = await self._provider.ask("POST", path, body)
        if isinstance(answer, Retry):
            return answer
        said = answer.read(_Taken)
        if answer.status != ACCEPTED or said is None or not said.request_id:
            return failure(answer, said.message if said else "")
        return await self._became(said.request_id)

    async def _became(self, request_id: str) -> Outcome:
        """Return what became of a request that was taken."""
        for wait_s in ASK_AFTER_S:
            await self._clock.sleep_until(self._clock.mono_s() + wait_s)
            path = f"/alerts/requests/{quote(request_id, safe='')}"
            answer = await self._provider.ask("GET", path)
            # Not found: not processed yet.  Any other trouble says nothing of the request either.
            if isinstance(answer, Answer) and answer.status == OK:
                said = answer.read(_Processed)
                if said is not None:
                    return _judged(said.data)
        return Retry("taken, but not processed so far")


def create(config: OpsgenieConfig, clock: Clock) -> Opsgenie:
    """Return the notifier that the configuration describes; raises ``ConfigError``."""
    where = f"notifiers.{config.name}"
    key = read_secret(config.api_key_file, f"{where}.api_key_file")
    url = checked_url(config.url, f"{where}.url")
    pace = Pace(CALLS_A_MINUTE, 60.0, clock)
    return Opsgenie(Provider(url, {"authorization": f"GenieKey {key}"}, pace), clock)


def _alert(message: Message) -> dict[str, Any]:
    return {
        "message": cut(message.summary, MESSAGE_LIMIT),
        "alias": message.dedup_key,
        "description": cut(as_text(message), DESCRIPTION_LIMIT),
        "priority": PRIORITY[message.severity],
        "source": "gpuward",
        "tags": [message.severity, message.level],
        "details": {name: cut(text, DETAIL_LIMIT) for name, text in facts(message).items()},
    }


def _judged(result: _Result) -> Outcome:
    if result.is_success:
        return Sent(result.alert_id or "")
    return Refused(cut(result.status or "not processed", 200))


class _Taken(msgspec.Struct, frozen=True, rename="camel"):
    request_id: str = ""
    message: str = ""


class _Result(msgspec.Struct, frozen=True, rename="camel"):
    is_success: bool
    status: str | None = ""
    alert_id: str | None = ""


class _Processed(msgspec.Struct, frozen=True, rename="camel"):
    data: _Result


class _Report(msgspec.Struct, frozen=True, rename="camel"):
    acknowledged_by: str | None = ""
    closed_by: str | None = ""


class _AlertThere(msgspec.Struct, frozen=True, rename="camel"):
    status: str
    acknowledged: bool = False
    report: _Report = _Report()


class _Found(msgspec.Struct, frozen=True, rename="camel"):
    data: _AlertThere
