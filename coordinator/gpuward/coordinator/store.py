"""The store: what web, commands and loops ask of the database.

Every change goes through ``Transaction.append``, which writes the events, what they add up to, and
the escalation steps that follow, all in one commit.  ``now_s`` always comes from the caller.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from gpuward.coordinator import events as e
from gpuward.coordinator import (
    gpu_history,
    store_incidents,
    store_maps,
    store_outbox,
    store_reports,
    store_steps,
)
from gpuward.coordinator.escalation import DEFAULT_POLICY, handover_step, reconcile
from gpuward.coordinator.incident import Refused, apply, decide
from gpuward.coordinator.store_dialect import begin, execute_each, upsert
from gpuward.coordinator.store_schema import heartbeat
from gpuward.coordinator.ulid import new_ulid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from gpuward.coordinator.escalation import PolicyStep
    from gpuward.coordinator.model import Finding, Incident, Page, Step

# Resolved incidents that a list shows at most; older ones are found by id.
LIST_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Record:
    """Everything about one incident; timeline oldest first, steps by due time."""

    incident: Incident
    timeline: tuple[e.TimelineEntry, ...]
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True)
class Applied:
    """The command took effect, or had already (then the version is unchanged)."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class Conflict:
    """The incident has changed since the caller looked: its version is no longer the expected."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class NotFound:
    """There is no such incident."""


Submitted = Applied | Conflict | NotFound | Refused


class Transaction:
    """One write transaction; lives inside ``Store.writing`` only."""

    def __init__(
        self, connection: AsyncConnection, policy: Sequence[PolicyStep], speed: float
    ) -> None:
        self.connection = connection
        self._policy = policy
        self._speed = speed

    async def open(
        self, event: e.Opened, then: Sequence[e.Command], now_s: float
    ) -> Incident | None:
        """Open an incident and carry out ``then``; ``None`` when its group has an open one."""
        incident = await store_incidents.create(self.connection, new_ulid(now_s), event, now_s)
        if incident is None:
            return None
        await self._reconcile(incident, now_s)
        return await self.tell(incident, then, now_s)

    async def tell(
        self, incident: Incident, commands: Sequence[e.Command], now_s: float
    ) -> Incident:
        """Carry out ``commands`` in order, as one change; one that is refused changes nothing."""
        events: list[e.AnyEvent] = []
        after = incident
        for command in commands:
            decided = decide(after, command)
            if not isinstance(decided, Refused):
                events += decided
                for event in decided:
                    after = apply(after, event, now_s)
        return await self.append(incident, events, now_s)

    async def append(
        self, incident: Incident, events: Sequence[e.AnyEvent], now_s: float
    ) -> Incident:
        """Write ``events`` with everything that follows from them; return the incident after."""
        after = await store_incidents.append(self.connection, incident, events, now_s)
        if _timers_change(incident, after):
            await self._reconcile(after, now_s)
        if after.rotation is not incident.rotation:
            await self._hand_over(after, now_s)
        if incident.is_open and not after.is_open and after.service:
            # What hurt until now is settled; only what comes after may open a new incident.
            watch = store_reports.Watch(counted_from_s=now_s)
            await store_reports.write_watch(self.connection, after.service, watch)
        return after

    async def _reconcile(self, incident: Incident, now_s: float) -> None:
        existing = await store_steps.load(self.connection, incident.id)
        for step in reconcile(existing, incident, self._policy, self._speed, now_s):
            await store_steps.write(self.connection, step)

    async def _hand_over(self, incident: Incident, now_s: float) -> None:
        # The new rotation must hear of it once, unless nobody has been paged yet: then it will be.
        steps = await store_steps.load(self.connection, incident.id)
        step = handover_step(incident, now_s)
        known = {s.level for s in steps}
        if step.level not in known and any(s.fired_at_s is not None for s in steps):
            await store_steps.write(self.connection, step)


class Store:
    """Incidents, reports, steps and pages in one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        policy: Sequence[PolicyStep] = DEFAULT_POLICY,
        speed: float = 1.0,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._speed = speed
        # SQLite has one writer: wait for the turn here, in order, instead of polling its lock.
        self._one_writer = engine.dialect.name == "sqlite"
        self._turn: AbstractAsyncContextManager[object] = (
            asyncio.Lock() if self._one_writer else nullcontext()
        )

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection that sees one consistent state."""
        async with self._engine.begin() as connection:
            await begin(connection, write=False)
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        """Yield a transaction that commits at the end of the block, or leaves no trace."""
        async with self._turn, self._engine.begin() as connection:
            await begin(connection, write=True)
            yield Transaction(connection, self._policy, self._speed)

    async def list_incidents(self, limit: int = LIST_LIMIT) -> tuple[Incident, ...]:
        """Return all open incidents, then the newest ``limit`` resolved ones, newest first."""
        async with self.reading() as connection:
            waiting = await store_incidents.load_open(connection)
            resolved = await store_incidents.load_resolved(connection, limit)
        return (*reversed(waiting), *resolved)

    async def incidents_of_gpu(self, name: str, limit: int = LIST_LIMIT) -> tuple[Incident, ...]:
        """Return the newest ``limit`` incidents of the card with this UUID or serial."""
        async with self.reading() as connection:
            return await gpu_history.load(connection, name, limit)

    async def get_incident(self, incident_id: str) -> Record | None:
        """Return everything about an incident; ``None`` when there is none of this id."""
        async with self.reading() as connection:
            incident = await store_incidents.load(connection, incident_id)
            if incident is None:
                return None
            ids = [finding.finding_id for finding in incident.findings]
            return Record(
                incident=incident,
                timeline=await store_incidents.load_timeline(connection, incident_id),
                findings=await store_reports.load_findings(connection, ids),
                steps=await store_steps.load(connection, incident_id),
                pages=await store_outbox.load(connection, incident_id),
            )

    async def submit(
        self,
        incident_id: str,
        command: e.Command,
        *,
        now_s: float,
        expected_version: int | None = None,
    ) -> Submitted:
        """Carry out a person's command.

        ``expected_version``: what the person saw; a page that has gone stale gets ``Conflict``.
        """
        async with self.writing() as tx:
            incident = await store_incidents.load(tx.connection, incident_id, for_update=True)
            if incident is None:
                return NotFound()
            if expected_version is not None and expected_version != incident.version:
                return Conflict(incident)
            decided = decide(incident, command)
            if isinstance(decided, Refused):
                return decided
            return Applied(await tx.append(incident, decided, now_s))

    async def take_over(self) -> None:
        """Take up at start what a dead process left half done.

        On SQLite this process is the only one, so every lease is of a dead one; on PostgreSQL
        another replica may hold it, and it runs out by itself.
        """
        if self._one_writer:
            async with self.writing() as tx:
                await store_outbox.release_all(tx.connection)
                await store_maps.release_all(tx.connection)

    async def ping(self) -> None:
        """Return when the database answers; raises ``sqlalchemy.exc.SQLAlchemyError``."""
        async with self.reading() as connection:
            await connection.execute(select(1))

    async def beat(self, now_s: float) -> None:
        """Return once a row is written; raises ``sqlalchemy.exc.SQLAlchemyError``."""
        async with self.writing() as tx:
            row = {"id": 1, "at_s": now_s}
            await execute_each(tx.connection, upsert(tx.connection, heartbeat), [row])

    async def close(self) -> None:
        await self._engine.dispose()


def _timers_change(before: Incident, after: Incident) -> bool:
    return (
        before.severity is not after.severity
        or before.is_open is not after.is_open
        or before.impact_since_s != after.impact_since_s
    )
