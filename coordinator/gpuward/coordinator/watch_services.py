"""Watch what no single report shows: what the users of each service feel.

A service whose users are hurt gets an incident; its severity follows the impact, upwards at once;
it is mitigated once the impact has been gone for the hold, and relapses when it returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.coordinator import correlate, store_incidents, store_reports
from gpuward.coordinator import events as e
from gpuward.coordinator.impact import Impact, measure
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

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from gpuward.coordinator.store import Store, Transaction

# A window this short still holds several reports of one second.
MIN_WINDOW_S = 10.0
# Readings are kept this long at least, and several windows, so that counting has a start.
KEPT_S = 120.0
KEPT_WINDOWS = 3


async def judge_services(store: Store, *, speed: float, now_s: float) -> None:
    """Judge every service once; a healthy one without an incident costs reads only."""
    async with store.reading() as connection:
        services = await store_reports.load_services(connection)
        impacts = [await _measure(connection, name, speed, now_s) for name in services]
        incidents = await store_incidents.load_open(connection)
    watched = {i.service for i in incidents if i.kind == correlate.SERVICE_IMPACT}
    for impact in impacts:
        if impact.service in watched or assess(impact, speed=speed).severity is not None:
            await _judge(store, impact.service, speed, now_s)


async def reasons_now(
    connection: AsyncConnection, service: str, *, speed: float, now_s: float
) -> tuple[str, ...]:
    """Return what users of ``service`` feel at this moment; empty when nothing."""
    impact = await _measure(connection, service, speed, now_s)
    return assess(impact, speed=speed).reasons


async def forget_old_readings(store: Store, *, speed: float, now_s: float) -> None:
    """Drop readings that no window reaches any more."""
    async with store.writing() as tx:
        kept_s = max(KEPT_S, KEPT_WINDOWS * _window_s(speed))
        await store_reports.forget_totals(tx.connection, now_s - kept_s)


def _window_s(speed: float) -> float:
    return max(MIN_WINDOW_S, WINDOW_S / speed)


async def _measure(connection: AsyncConnection, service: str, speed: float, now_s: float) -> Impact:
    watch = await store_reports.load_watch(connection, service)
    since_s = max(now_s - _window_s(speed), watch.counted_from_s or 0.0)
    totals = await store_reports.load_totals(connection, service, since_s)
    return measure(service, totals, since_s=since_s, now_s=now_s)


async def _judge(store: Store, service: str, speed: float, now_s: float) -> None:
    # Measured again, under the lock: the first look only chose whom to judge.
    async with store.writing() as tx:
        impact = await _measure(tx.connection, service, speed, now_s)
        key = correlate.service_key(service)
        incident = await store_incidents.load_group(tx.connection, key)
        findings = await store_reports.load_open_findings(tx.connection)
        others = await store_incidents.load_open(tx.connection)
        assessment = assess(impact, speed=speed)
        if incident is not None:
            causes = correlate.update_causes(incident, impact, findings, others)
            incident = await tx.tell(incident, causes, now_s)
            incident = await _relapse(tx, incident, impact, assessment, now_s)
            await _follow(tx, incident, impact, speed, now_s)
        elif assessment.severity is not None:
            opening = correlate.open_service(impact, assessment, findings, others, now_s)
            await tx.open(opening.event, opening.then, now_s)


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
