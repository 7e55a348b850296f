"""Watch what no single report shows: what the users of each service feel.

A service whose users are hurt gets an incident; its severity follows the impact, upwards at once;
it is mitigated once the impact has been gone for the hold, and relapses when it returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.coordinator import (
    correlate,
    service_incident,
    store_incidents,
    store_reports,
)
from gpuward.coordinator import events as e
from gpuward.coordinator.counting import Counting, measure
from gpuward.coordinator.diagnosis.gather import gather
from gpuward.coordinator.model import Incident, State
from gpuward.coordinator.severity import (
    HOLD_S,
    WINDOW_S,
    Assessment,
    Change,
    Keep,
    Over,
    assess,
    follow,
)
from gpuward.coordinator.store_dialect import late_s

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from gpuward.coordinator.impact import Impact, Replica
    from gpuward.coordinator.store import Store, Transaction

# A window this short still holds several reports of one second.
MIN_WINDOW_S = 10.0
# Readings are kept this long at least, and several windows, so that counting has a start.
KEPT_S = 120.0
KEPT_WINDOWS = 3
NO_WATCH = store_reports.Watch()


class Counts:
    """What this replica has read of every service: the database is asked for what is new only."""

    def __init__(self) -> None:
        self._services: dict[str, Counting] = {}
        # Up to when readings had come at the last look; None before the first.
        self._read_s: float | None = None

    async def replicas(
        self, connection: AsyncConnection, service: str, *, speed: float, now_s: float
    ) -> tuple[Replica, ...]:
        """Return what each replica of ``service`` does to its impact, as ``impacts`` has it."""
        counting = self._services.get(service)
        if counting is None:
            return ()
        watch = await store_reports.load_watch(connection, service)
        return tuple(counting.replicas(_since_s(watch, speed, now_s), now_s))

    async def _read(self, connection: AsyncConnection, *, speed: float, now_s: float) -> None:
        """Take in what was written since the last look."""
        if self._read_s is None:
            totals = await store_reports.load_totals(connection, now_s - _window_s(speed))
        else:
            # Of what is later still nothing is lost: counters are cumulative, and another follows.
            since_s = self._read_s - late_s(connection)
            totals = await store_reports.load_new_totals(connection, since_s)
        for reading in totals:
            counting = self._services.get(reading.service)
            if counting is None:
                counting = self._services[reading.service] = Counting(reading.service)
            counting.add(reading)
        self._read_s = now_s
        for service, counting in [*self._services.items()]:
            counting.forget(now_s - _kept_s(speed))
            if counting.is_empty:
                del self._services[service]

    async def impacts(
        self, connection: AsyncConnection, *, speed: float, now_s: float
    ) -> dict[str, Impact]:
        """Return the impact on each service."""
        await self._read(connection, speed=speed, now_s=now_s)
        watches = await store_reports.load_watches(connection)
        return {
            service: counting.impact(_since_s(watches.get(service, NO_WATCH), speed, now_s), now_s)
            for service, counting in sorted(self._services.items())
        }


async def judge_services(store: Store, counts: Counts, *, speed: float, now_s: float) -> None:
    """Judge every service once; a healthy one without an incident costs reads only."""
    async with store.reading() as connection:
        impacts = await counts.impacts(connection, speed=speed, now_s=now_s)
        incidents = await store_incidents.load_open(connection)
    watched = {i.service for i in incidents if i.kind == correlate.SERVICE_IMPACT}
    for service, impact in impacts.items():
        if service in watched or assess(impact, speed=speed).severity is not None:
            await _judge(store, counts, service, speed, now_s)


async def reasons_now(
    connection: AsyncConnection, service: str, *, speed: float, now_s: float
) -> tuple[str, ...]:
    """Return what users of ``service`` feel at this moment; empty when nothing."""
    watch = await store_reports.load_watch(connection, service)
    since_s = _since_s(watch, speed, now_s)
    totals = await store_reports.load_totals(connection, since_s, service)
    impact = measure(service, totals, since_s=since_s, now_s=now_s)
    return assess(impact, speed=speed).reasons


async def forget_old_readings(store: Store, *, speed: float, now_s: float) -> None:
    """Drop readings that no window reaches any more."""
    async with store.writing() as tx:
        await store_reports.forget_totals(tx.connection, now_s - _kept_s(speed))


def _kept_s(speed: float) -> float:
    return max(KEPT_S, KEPT_WINDOWS * _window_s(speed))


def _since_s(watch: store_reports.Watch, speed: float, now_s: float) -> float:
    return max(now_s - _window_s(speed), watch.counted_from_s or 0.0)


def _window_s(speed: float) -> float:
    return max(MIN_WINDOW_S, WINDOW_S / speed)


async def _judge(store: Store, counts: Counts, service: str, speed: float, now_s: float) -> None:
    # Measured again, under the lock: the first look only chose whom to judge.
    async with store.writing() as tx:
        impact = (await counts.impacts(tx.connection, speed=speed, now_s=now_s))[service]
        key = correlate.service_key(service)
        incident = await store_incidents.load_group(tx.connection, key)
        findings = await store_reports.load_open_findings(tx.connection)
        others = await store_incidents.load_open(tx.connection)
        assessment = assess(impact, speed=speed)
        if incident is None and assessment.severity is None:
            return
        replicas = await counts.replicas(tx.connection, service, speed=speed, now_s=now_s)
        onset_s = _onset_s(incident, impact, now_s)
        case = gather(service, replicas, findings, onset_s=onset_s, now_s=now_s, speed=speed)
        if incident is not None:
            causes = service_incident.update_causes(incident, impact, findings, others, case)
            incident = await tx.tell(incident, causes, now_s)
            incident = await _relapse(tx, incident, impact, assessment, now_s)
            await _follow(tx, incident, impact, speed, now_s)
        else:
            opening = service_incident.open_service(impact, assessment, findings, others, case)
            await tx.open(opening.event, opening.then, now_s)


def _onset_s(incident: Incident | None, impact: Impact, now_s: float) -> float:
    """Return when users were first hurt."""
    if incident is not None and incident.impact_since_s is not None:
        return incident.impact_since_s
    return now_s if impact.hurt_since_s is None else impact.hurt_since_s


async def _relapse(
    tx: Transaction, incident: Incident, impact: Impact, assessment: Assessment, now_s: float
) -> Incident:
    if incident.state is not State.MITIGATED or assessment.severity is None:
        return incident
    since_s = now_s if impact.hurt_since_s is None else impact.hurt_since_s
    return await tx.tell(incident, [e.BeginImpact(since_s, assessment.reasons)], now_s)


async def _follow(
    tx: Transaction, incident: Incident, impact: Impact, speed: float, now_s: float
) -> None:
    watch = await store_reports.load_watch(tx.connection, impact.service)
    better_since_s = None
    match follow(incident, impact, watch.better_since_s, speed=speed, now_s=now_s):
        case Keep(since_s):
            better_since_s = since_s
        case Change(severity, reasons):
            await tx.tell(incident, [e.ChangeSeverity(severity, reasons)], now_s)
        case Over():
            better_since_s = watch.better_since_s
            reason = f"users have not been hurt for {HOLD_S / speed:.0f} s"
            await tx.tell(incident, [e.Mitigate(e.MACHINE, reason)], now_s)
    if better_since_s != watch.better_since_s:
        kept = store_reports.Watch(better_since_s, watch.counted_from_s)
        await store_reports.write_watch(tx.connection, impact.service, kept)
