"""What the handlers share, and the questions they ask the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from gpuward.coordinator import events as e
from gpuward.coordinator import store_maps, store_reports, store_steps
from gpuward.coordinator.counting import measure
from gpuward.coordinator.severity import WINDOW_S
from gpuward.coordinator.store import LIST_LIMIT
from gpuward.coordinator.watch_services import MIN_WINDOW_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.requests import Request

    from gpuward.coordinator.escalation import PolicyStep
    from gpuward.coordinator.impact import Impact
    from gpuward.coordinator.map_request import MapRequest
    from gpuward.coordinator.model import Incident, Step
    from gpuward.coordinator.oncall import Roster
    from gpuward.coordinator.store import Record, Store
    from gpuward.daemon.clock import Clock

# Lengths of what a person may type.
NAME_LIMIT = 100
NOTE_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Context:
    """The store, the clock and the policy by which the coordinator runs.

    ``url``: how people reach it, where that is not by an address; empty for none.
    """

    store: Store
    clock: Clock
    roster: Roster
    policy: Sequence[PolicyStep]
    speed: float
    url: str

    @property
    def window_s(self) -> float:
        """Length of the window in which impact is measured."""
        return max(MIN_WINDOW_S, WINDOW_S / self.speed)

    async def incidents(self, request: Request, limit: int = LIST_LIMIT) -> tuple[Incident, ...]:
        """Return the incidents to list: those of one card where the query names it."""
        if gpu := request.query_params.get("gpu", ""):
            return await self.store.incidents_of_gpu(gpu)
        return await self.store.list_incidents(limit)

    async def record(self, request: Request) -> Record:
        """Return the incident that the path names; raises 404."""
        incident_id = request.path_params["id"]
        record = await self.store.get_incident(incident_id)
        if record is None:
            raise HTTPException(404, f"there is no incident {incident_id}")
        return record

    async def memory_maps(self, record: Record) -> tuple[MapRequest, ...]:
        """Return what was asked for and answered of the memory of the incident's processes."""
        async with self.store.reading() as connection:
            return await store_maps.load(connection, record.incident.id)

    async def steps(self, incidents: Iterable[Incident]) -> dict[str, tuple[Step, ...]]:
        """Return the escalation steps of each incident."""
        async with self.store.reading() as connection:
            return {i.id: await store_steps.load(connection, i.id) for i in incidents}

    async def impact(self, incident: Incident) -> Impact | None:
        """Return what users of the incident's service feel now; ``None`` without a service."""
        if not incident.service or not incident.is_open:
            return None
        now_s = self.clock.wall_s()
        since_s = now_s - self.window_s
        async with self.store.reading() as connection:
            samples = await store_reports.load_totals(connection, since_s, incident.service)
        return measure(incident.service, samples, since_s=since_s, now_s=now_s)


def context(request: Request) -> Context:
    """Return what ``create_app`` was given."""
    shared: Context = request.app.state.context
    return shared


def person_command(verb: str, by: str, note: str) -> e.Acknowledge | e.Resolve:
    """Return what a person asks for; raises 400 when it is not said who, or too much is said."""
    by, note = " ".join(by.split()), note.strip()
    if not by:
        raise HTTPException(400, "say who you are: 'by' is empty")
    if by == e.MACHINE:
        raise HTTPException(400, f"'by' is a person: {e.MACHINE} is the coordinator itself")
    if len(by) > NAME_LIMIT or len(note) > NOTE_LIMIT:
        raise HTTPException(400, f"at most {NAME_LIMIT} characters of 'by', {NOTE_LIMIT} of 'note'")
    return e.Acknowledge(by, note) if verb == "ack" else e.Resolve(by, note)
