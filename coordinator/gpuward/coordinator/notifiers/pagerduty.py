"""Page by PagerDuty: Events API v2 out, REST back.

One alert for each escalation level: a trigger of an alert that is acknowledged stays quiet there,
so L2 must be another key than L1.  Sources: developer.pagerduty.com, Events API v2 and
``GET /incidents``; limits as documented in 2026-11.
"""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from gpuward.coordinator.alerts import Alert, Sight
from gpuward.coordinator.model import State
from gpuward.coordinator.notifiers.facts import cut, facts
from gpuward.coordinator.notifiers.provider import (
    Pace,
    Provider,
    checked_url,
    failure,
    read_secret,
)
from gpuward.coordinator.page import Message, Outcome, Refused, Retry, Sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.daemon.clock import Clock

ACCEPTED = 202
# Calls within a minute: of an integration key, and of an API token.
EVENTS_A_MINUTE = 120
READS_A_MINUTE = 960
# PagerDuty asks for half a minute between two tries, and sends no Retry-After.
PAUSE_S = 30.0
SUMMARY_LIMIT = 1024
BODY_LIMIT = 512_000
SEVERITY: Mapping[str, str] = MappingProxyType(
    {"SEV1": "critical", "SEV2": "error", "SEV3": "warning", "SEV4": "info"}
)
STATES: Mapping[str, State] = MappingProxyType(
    {
        "triggered": State.OPEN,
        "acknowledged": State.ACKNOWLEDGED,
        "resolved": State.RESOLVED,
    }
)
# Mitigated is acknowledged by somebody.  An acknowledgement that is withdrawn here stays there:
# events cannot take it back.
ACTIONS: Mapping[State, str] = MappingProxyType(
    {
        State.ACKNOWLEDGED: "acknowledge",
        State.MITIGATED: "acknowledge",
        State.RESOLVED: "resolve",
    }
)


class PagerDutyConfig(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="pagerduty",
):
    """A channel that pages by a PagerDuty service."""

    name: Annotated[str, Meta(description="What people and rotations call this channel; unique.")]
    routing_key_file: Annotated[
        str, Meta(description="Path of a file with the integration key of an Events API v2.")
    ]
    api_token_file: Annotated[
        str,
        Meta(description="Path of a file with a read-only API token; empty: no acks come back."),
    ] = ""
    url: Annotated[
        str, Meta(description="Events API; `https://events.eu.pagerduty.com` in the EU region.")
    ] = "https://events.pagerduty.com"
    api_url: Annotated[
        str, Meta(description="REST API; `https://api.eu.pagerduty.com` in the EU region.")
    ] = "https://api.pagerduty.com"


class PagerDuty:
    """Triggers, acknowledges and resolves alerts of one integration key."""

    tells = frozenset({State.ACKNOWLEDGED, State.RESOLVED})

    def __init__(self, events: Provider, routing_key: str) -> None:
        self._events = events
        self._routing_key = routing_key

    async def send(self, message: Message) -> Outcome:
        return await self._enqueue(self._trigger(message))

    async def follow(self, alert: Alert, message: Message) -> Outcome:
        action = ACTIONS.get(State(message.state))
        if action is None or action == ACTIONS.get(alert.told):
            return Sent()
        return await self._enqueue(
            {
                "routing_key": self._routing_key,
                "event_action": action,
                "dedup_key": alert.dedup_key,
            }
        )

    async def close(self) -> None:
        await self._events.close()

    def _trigger(self, message: Message) -> dict[str, Any]:
        began = datetime.fromtimestamp(message.opened_at_s, UTC)
        event = {
            "routing_key": self._routing_key,
            "event_action": "trigger",
            "dedup_key": message.dedup_key,
            "client": "gpuward",
            "client_url": message.url,
            "links": [{"href": message.url, "text": "Incident in gpuward"}],
            "payload": {
                "summary": cut(message.summary, SUMMARY_LIMIT),
                "source": "gpuward",
                "severity": SEVERITY[message.severity],
                "timestamp": began.isoformat(timespec="milliseconds"),
                "custom_details": facts(message),
            },
        }
        if len(msgspec.json.encode(event)) > BODY_LIMIT:
            event["payload"]["custom_details"] = {"incident": message.url}  # type: ignore[index]
        return event

    async def _enqueue(self, event: dict[str, Any]) -> Outcome:
        answer = await self._events.ask("POST", "/v2/enqueue", event)
        if isinstance(answer, Retry):
            return answer
        said = answer.read(_Enqueued)
        if answer.status == ACCEPTED and said is not None and said.status == "success":
            return Sent()
        failed = failure(answer, "; ".join(said.errors) if said else "")
        if isinstance(failed, Retry) and failed.after_s is None:
            return Retry(failed.reason, PAUSE_S)
        return failed


class PagerDutyReadBack(PagerDuty):
    """Also reads back what people did to the alerts."""

    def __init__(self, events: Provider, routing_key: str, rest: Provider) -> None:
        super().__init__(events, routing_key)
        self._rest = rest

    async def look(self, alert: Alert) -> Sight | Retry | Refused:
        # Also finds the incident that a grouping there has put the alert into.
        query = {
            "incident_key": alert.dedup_key,
            "date_range": "all",
            "sort_by": "created_at:desc",
            "limit": "1",
        }
        said = await self._rest.read("/incidents", _Incidents, query)
        if isinstance(said, Retry | Refused):
            return said
        if not said.incidents:
            return Sight(State.OPEN)
        found = said.incidents[0]
        return Sight(STATES.get(found.status, State.OPEN), found.by())

    async def close(self) -> None:
        await super().close()
        await self._rest.close()


def create(config: PagerDutyConfig, clock: Clock) -> PagerDuty:
    """Return the notifier that the configuration describes; raises ``ConfigError``."""
    where = f"notifiers.{config.name}"
    routing_key = read_secret(config.routing_key_file, f"{where}.routing_key_file")
    url = checked_url(config.url, f"{where}.url")
    api_url = checked_url(config.api_url, f"{where}.api_url")
    token = ""
    if config.api_token_file:
        token = read_secret(config.api_token_file, f"{where}.api_token_file")
    events = Provider(url, {}, Pace(EVENTS_A_MINUTE, 60.0, clock))
    if not token:
        return PagerDuty(events, routing_key)
    headers = {
        "authorization": f"Token token={token}",
        "accept": "application/vnd.pagerduty+json;version=2",
    }
    return PagerDutyReadBack(
        events, routing_key, Provider(api_url, headers, Pace(READS_A_MINUTE, 60.0, clock))
    )


class _Enqueued(msgspec.Struct, frozen=True):
    status: str = ""
    errors: list[str] = []


class _Reference(msgspec.Struct, frozen=True):
    summary: str | None = ""
    type: str = ""


class _Acknowledgement(msgspec.Struct, frozen=True):
    acknowledger: _Reference = _Reference()


class _Incident(msgspec.Struct, frozen=True):
    status: str
    acknowledgements: list[_Acknowledgement] = []
    last_status_change_by: _Reference | None = None

    def by(self) -> str:
        """Return who acted: whoever acknowledged first, else whoever changed it last."""
        people = [a.acknowledger.summary for a in self.acknowledgements]
        if self.last_status_change_by is not None:
            people.append(self.last_status_change_by.summary)
        return next((name for name in people if name), "")


class _Incidents(msgspec.Struct, frozen=True):
    incidents: list[_Incident]
