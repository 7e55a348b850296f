"""Fetch the memory maps that open incidents want, in the background.

What is wanted follows from the incidents and their findings, and is written down before anybody is
asked: a coordinator that is killed asks again.  Each process is asked by one replica at a time, few
at once, and not for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gpuward.coordinator import events as e
from gpuward.coordinator import map_request, store_incidents, store_maps, store_reports
from gpuward.coordinator.agents import Later, Refused, Taken
from gpuward.coordinator.due_work import DueWork
from gpuward.coordinator.map_request import MappedProcess
from gpuward.memory_map.model import totals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gpuward.coordinator.agents import Outcome
    from gpuward.coordinator.model import Incident
    from gpuward.coordinator.store import Store, Transaction
    from gpuward.daemon.clock import Clock
    from gpuward.memory_map.model import MemoryMap

    Ask = Callable[[str, MappedProcess, float], Awaitable[Outcome]]

log = structlog.get_logger()

IN_FLIGHT_LIMIT = 4
# An agent that does not say when to come back: 10, 20, 40 ... seconds, at most this.
FIRST_PAUSE_S = 10.0
BACKOFF_LIMIT_S = 300.0
# Then a person has to ask.
ATTEMPTS_LIMIT = 10


async def plan_maps(store: Store, now_s: float) -> None:
    """Note which maps open incidents want and have not asked for; one read when there is none."""
    async with store.reading() as connection:
        incidents = [i for i in await store_incidents.load_open(connection) if _memory_ids(i)]
        ids = [finding_id for incident in incidents for finding_id in _memory_ids(incident)]
        findings = await store_reports.load_findings(connection, ids)
        known = await store_maps.known(connection, [incident.id for incident in incidents])
    fresh = [
        (incident.id, process)
        for incident in incidents
        for process in map_request.wanted(
            incident, findings, known.get(incident.id, frozenset()), now_s
        )
    ]
    if not fresh:
        return
    async with store.writing() as tx:
        for incident_id, process in fresh:
            await store_maps.add(tx.connection, incident_id, process, now_s)
            # Another incident has just asked: the process need not stand still again.
            memory_map = await store_maps.recent(tx.connection, process, now_s)
            if memory_map is not None:
                await _keep(tx, process, memory_map, now_s)


def _memory_ids(incident: Incident) -> Iterable[str]:
    return [
        linked.finding_id
        for linked in incident.findings
        if linked.kind.startswith(map_request.KINDS_PREFIX)
    ]


class MemoryMaps(DueWork[tuple[MappedProcess, int]]):
    """Asks agents for the maps that are due, with ``ask``."""

    def __init__(self, store: Store, ask: Ask, clock: Clock) -> None:
        super().__init__(
            "memory_map",
            store,
            clock,
            limit=IN_FLIGHT_LIMIT,
            is_any_due=store_maps.is_any_due,
            take=store_maps.lease,
        )
        self._ask = ask

    async def _do(self, row: tuple[MappedProcess, int]) -> None:
        process, attempts = row
        async with self._store.reading() as connection:
            address = await store_reports.load_query_address(connection, process.node)
        await self._mark(process, attempts, await self._ask(address, process, self._now_s()))

    async def _mark(self, process: MappedProcess, attempts: int, outcome: Outcome) -> None:
        match outcome:
            case Taken(memory_map):
                async with self._store.writing() as tx:
                    await _keep(tx, process, memory_map, self._now_s())
                log.info("memory_map.taken", node=process.node, process=process.process_key)
            case Later(reason, after_s) if attempts + 1 < ATTEMPTS_LIMIT:
                pause_s = min(BACKOFF_LIMIT_S, FIRST_PAUSE_S * 2.0**attempts)
                due_at_s = self._now_s() + (pause_s if after_s is None else after_s)
                async with self._store.writing() as tx:
                    await store_maps.mark_later(tx.connection, process, due_at_s, reason)
                log.info("memory_map.delayed", node=process.node, reason=reason)
            case Later(reason) | Refused(reason):
                async with self._store.writing() as tx:
                    await store_maps.mark_refused(tx.connection, process, reason)
                log.warning("memory_map.refused", node=process.node, reason=reason)

    def _now_s(self) -> float:
        return self._clock.wall_s()


async def _keep(
    tx: Transaction, process: MappedProcess, memory_map: MemoryMap, now_s: float
) -> None:
    kept = await store_maps.mark_taken(tx.connection, process, memory_map)
    # One order for all replicas: two that lock the same incidents never wait for each other.
    for incident_id in sorted(kept):
        incident = await store_incidents.load(tx.connection, incident_id, for_update=True)
        if incident is not None:
            event = _event(memory_map, on_request=kept[incident_id])
            await tx.append(incident, [event], now_s)


def _event(memory_map: MemoryMap, *, on_request: bool) -> e.MemoryMapTaken:
    sums = totals(memory_map.segments)
    return e.MemoryMapTaken(
        process=memory_map.process,
        pid=memory_map.pid,
        gpu_uuid=memory_map.gpu,
        taken_at_s=memory_map.taken_at_s,
        reserved_bytes=sums.reserved,
        active_bytes=sums.allocated + sums.pending,
        stranded_bytes=sums.stranded,
        releasable_bytes=sums.releasable,
        largest_free_bytes=sums.largest_hole,
        is_truncated=memory_map.is_truncated,
        on_request=on_request,
    )
