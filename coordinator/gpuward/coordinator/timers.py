"""Fire due escalation steps: claim, decide, write pages and timeline, all in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from gpuward.coordinator import escalation, store_incidents, store_outbox, store_steps
from gpuward.coordinator import events as e
from gpuward.coordinator.model import Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.coordinator.escalation import PolicyStep, Target
    from gpuward.coordinator.model import Incident, Step
    from gpuward.coordinator.oncall import Roster
    from gpuward.coordinator.store import Store, Transaction

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Escalation:
    """Whom to page when; ``speed`` divides every delay."""

    policy: Sequence[PolicyStep]
    roster: Roster
    speed: float = 1.0


async def fire_due(store: Store, plan: Escalation, now_s: float) -> int:
    """Decide every due step and return how many there were; 0 costs one read."""
    async with store.reading() as connection:
        if not await store_steps.is_any_due(connection, now_s):
            return 0
    async with store.writing() as tx:
        steps = await store_steps.claim_due(tx.connection, now_s)
        for step in steps:
            await _decide(tx, plan, step, now_s)
    return len(steps)


async def _decide(tx: Transaction, plan: Escalation, step: Step, now_s: float) -> None:
    # Not as it was when claimed: an earlier step of this round may have changed it.
    incident = await store_incidents.load(tx.connection, step.incident_id, for_update=True)
    if incident is None or escalation.stops(incident, step.until):
        return
    row = escalation.row_of(step, incident, plan.policy)
    if row is None:
        await store_steps.write(tx.connection, replace(step, cancelled_at_s=now_s))
        return
    match escalation.decide_step(row, incident, plan.roster, speed=plan.speed, now_s=now_s):
        case escalation.Postpone(due_at_s):
            await store_steps.write(tx.connection, replace(step, due_at_s=due_at_s))
        case escalation.Fire(targets):
            await _fire(tx, step, row, incident, targets, now_s=now_s)
        case escalation.Nobody(roles):
            await _fall_through(tx, plan, step, incident, roles, now_s=now_s)


async def _fire(
    tx: Transaction,
    step: Step,
    row: PolicyStep,
    incident: Incident,
    targets: Sequence[Target],
    *,
    now_s: float,
) -> None:
    if not await store_steps.mark_fired(tx.connection, step, now_s):
        return
    await store_outbox.add(tx.connection, [_page(step, target, now_s) for target in targets])
    happened: list[e.AnyEvent] = []
    if escalation.misses_acknowledgement(row, incident):
        happened.append(e.AcknowledgementMissed(deadline_s=step.due_at_s))
    people = tuple(dict.fromkeys(target.person for target in targets))
    channels = tuple(dict.fromkeys(target.channel for target in targets))
    happened.append(e.StepFired(level=step.level, targets=people, channels=channels))
    await tx.append(incident, happened, now_s)
    log.info("step.fired", incident=incident.id, level=step.level, targets=people)


async def _fall_through(
    tx: Transaction,
    plan: Escalation,
    step: Step,
    incident: Incident,
    roles: Sequence[str],
    *,
    now_s: float,
) -> None:
    if not await store_steps.mark_fired(tx.connection, step, now_s):
        return
    steps = await store_steps.load(tx.connection, incident.id)
    waiting = [s for s in steps if s.fired_at_s is None and s.cancelled_at_s is None]
    next_level = waiting[0].level if waiting else ""
    event = e.NobodyOnCall(level=step.level, roles=tuple(roles), next_level=next_level)
    await tx.append(incident, [event], now_s)
    log.critical("oncall.nobody", incident=incident.id, level=step.level, next=next_level)
    if waiting:
        await _decide(tx, plan, waiting[0], now_s)


def _page(step: Step, target: Target, now_s: float) -> Page:
    return Page(
        id=0,
        incident_id=step.incident_id,
        level=step.level,
        target=target.person,
        channel=target.channel,
        dedup_key=escalation.dedup_key(step.incident_id, step.level),
        until=step.until,
        created_at_s=now_s,
    )
