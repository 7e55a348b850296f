"""What the coordinator says, over its JSON API: the story is told from this and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from gpuward.simulator import http_client

# On a machine that has more to do than it can.
ANSWER_WITHIN_S = 30.0


class Refused(Exception):  # noqa: N818 - a condition, told to the user
    """The coordinator answered with an error; the message is its own."""


class Cause(msgspec.Struct, frozen=True):
    """A finding as an incident lists it."""

    finding_id: str
    kind: str
    summary: str
    domain: str
    is_open: bool = True


class Entry(msgspec.Struct, frozen=True):
    """One line of the timeline; ``event["type"]`` names what happened."""

    seq: int
    at_s: float
    event: dict[str, Any]

    @property
    def type(self) -> str:
        name: str = self.event["type"]
        return name


class Incident(msgspec.Struct, frozen=True):
    """An incident; a list of incidents leaves the timeline empty."""

    id: str
    kind: str
    title: str
    state: str
    severity: str
    rotation: str
    domain: str
    version: int
    opened_at_s: float
    service: str = ""
    acknowledged_by: str = ""
    findings: list[Cause] = []
    timeline: list[Entry] = []

    def events(self, *types: str) -> list[Entry]:
        """Return the timeline's entries of these types, oldest first."""
        return [entry for entry in self.timeline if entry.type in types]

    def step(self, level: str) -> Entry | None:
        """Return the firing of an escalation step, once it has fired."""
        fired = self.events("StepFired")
        return next((entry for entry in fired if entry.event["level"] == level), None)


class _List(msgspec.Struct, frozen=True):
    incidents: list[Incident]


@dataclass(frozen=True, slots=True)
class Centre:
    """A client of the coordinator at ``address``; every call may raise ``Unreachable``."""

    address: str

    def page_of(self, incident_id: str) -> str:
        return f"http://{self.address}/incidents/{incident_id}"

    async def incidents(self) -> list[Incident]:
        return msgspec.json.decode(
            await self._ask("GET", "/api/v1/incidents"), type=_List
        ).incidents

    async def incident(self, incident_id: str) -> Incident:
        path = f"/api/v1/incidents/{incident_id}"
        return msgspec.json.decode(await self._ask("GET", path), type=Incident)

    async def acknowledge(self, incident_id: str, by: str, note: str) -> None:
        await self._act(incident_id, "ack", by, note)

    async def resolve(self, incident_id: str, by: str, note: str) -> None:
        await self._act(incident_id, "resolve", by, note)

    async def review(self, incident_id: str) -> str:
        """Return the draft as Markdown."""
        return (await self._ask("GET", f"/api/v1/incidents/{incident_id}/review")).decode()

    async def _act(self, incident_id: str, verb: str, by: str, note: str) -> None:
        body = msgspec.json.encode({"by": by, "note": note})
        await self._ask("POST", f"/api/v1/incidents/{incident_id}/{verb}", body)

    async def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        reply = await http_client.request(
            self.address, method, path, body, timeout_s=ANSWER_WITHIN_S
        )
        if reply.status != HTTPStatus.OK:
            raise Refused(f"{method} {path}: {reply.status} {reply.body[:300].decode()}")
        return reply.body
