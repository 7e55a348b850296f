"""Due steps are decided once, in order, and written with their pages."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.escalation import DEFAULT_POLICY
from gpuward.coordinator.migrate import upgrade
from gpuward.coordinator.model import CauseDomain, Rotation, Severity
from gpuward.coordinator.oncall import Roster, Team
from gpuward.coordinator.store import Store
from gpuward.coordinator.store_dialect import create_engine
from gpuward.coordinator.timers import Escalation, fire_due

MINUTE = 60.0


@pytest.fixture
def plan(make):
    return Escalation(DEFAULT_POLICY, make.roster)


async def open_one(store, make, severity=Severity.SEV2, **changes):
    async with store.writing() as tx:
        return await tx.open(make.opened(severity, **changes), (), make.now_s)


async def paged(store, incident):
    record = await store.get_incident(incident.id)
    return [(page.level, page.target, page.channel) for page in record.pages]


async def told(store, incident, *kinds):
    record = await store.get_incident(incident.id)
    return [entry.event for entry in record.timeline if isinstance(entry.event, kinds)]


async def test_the_whole_chain(store, make, plan):
    incident = await open_one(store, make)

    for minute in range(0, 70, 5):
        await fire_due(store, plan, make.now_s + minute * MINUTE)

    assert [
        ("L1", "ann", "pager"),
        ("L1-repeat", "ann", "pager"),
        ("L1-repeat", "ann", "phone"),
        ("L2", "bob", "pager"),
        ("L3", "cyd", "pager"),
        ("L3", "exa", "pager"),
        ("executive", "vic", "pager"),
    ] == await paged(store, incident)
    assert [e.AcknowledgementMissed(make.now_s + 5 * MINUTE)] == await told(
        store, incident, e.AcknowledgementMissed
    )


async def test_an_acknowledgement_stops_l2_and_not_l3(store, make, plan):
    incident = await open_one(store, make)
    await fire_due(store, plan, make.now_s)
    await store.submit(incident.id, e.Acknowledge("ann"), now_s=make.now_s + MINUTE)

    for minute in range(1, 70):
        await fire_due(store, plan, make.now_s + minute * MINUTE)

    assert ["L1", "L3", "L3", "executive"] == [p[0] for p in await paged(store, incident)]


async def test_an_acknowledgement_taken_back_resumes_the_chain(store, make, plan):
    """What has become overdue meanwhile fires at once."""
    incident = await open_one(store, make)
    await fire_due(store, plan, make.now_s)
    await store.submit(incident.id, e.Acknowledge("ann"), now_s=make.now_s + MINUTE)
    await fire_due(store, plan, make.now_s + 20 * MINUTE)
    await store.submit(incident.id, e.Unacknowledge("ann", "ill"), now_s=make.now_s + 20 * MINUTE)

    await fire_due(store, plan, make.now_s + 21 * MINUTE)

    assert ["L1", "L1-repeat", "L1-repeat", "L2"] == [p[0] for p in await paged(store, incident)]


async def test_resolving_ends_everything(store, make, plan):
    incident = await open_one(store, make)
    await store.submit(incident.id, e.Resolve("ann"), now_s=make.now_s)

    assert 0 == await fire_due(store, plan, make.now_s + 90 * MINUTE)
    assert [] == await paged(store, incident)


async def test_users_who_are_fine_keep_leadership_asleep(store, make, plan):
    incident = await open_one(store, make, customer_impact=False, impact_since_s=None)
    await store.submit(incident.id, e.Acknowledge("ann"), now_s=make.now_s)

    for minute in range(0, 120, 10):
        await fire_due(store, plan, make.now_s + minute * MINUTE)
    assert "executive" not in [p[0] for p in await paged(store, incident)]

    began_s = make.now_s + 120 * MINUTE
    await store.submit(incident.id, e.BeginImpact(began_s, ("hurt",)), now_s=began_s)
    for minute, fired in ((29, False), (30, True)):
        await fire_due(store, plan, began_s + minute * MINUTE)
        assert fired == ("executive" in [p[0] for p in await paged(store, incident)])


async def test_nobody_on_call_falls_through_at_once(store, make):
    """Never dropped, and never waits for the delay of a step that somebody could answer."""
    teams = {
        Rotation.INFRASTRUCTURE: replace(make.roster.teams[Rotation.INFRASTRUCTURE], primary=None)
    }
    plan = Escalation(DEFAULT_POLICY, replace(make.roster, teams=teams))
    incident = await open_one(store, make)

    await fire_due(store, plan, make.now_s)

    assert [("L2", "bob", "pager")] == await paged(store, incident)
    assert [
        e.NobodyOnCall("L1", ("primary",), "L1-repeat"),
        e.NobodyOnCall("L1-repeat", ("primary",), "L2"),
    ] == await told(store, incident, e.NobodyOnCall)


async def test_nobody_at_all_is_on_the_timeline(store, make):
    plan = Escalation(DEFAULT_POLICY, Roster(teams={Rotation.INFRASTRUCTURE: Team()}, experts={}))
    incident = await open_one(store, make)

    await fire_due(store, plan, make.now_s)
    await fire_due(store, plan, make.now_s + 60 * MINUTE)

    assert [] == await paged(store, incident)
    levels = [event.level for event in await told(store, incident, e.NobodyOnCall)]
    assert ["L1", "L1-repeat", "L2", "L3", "executive"] == levels


async def test_a_handover_pages_the_other_rotation(store, make, plan):
    incident = await open_one(store, make)
    await fire_due(store, plan, make.now_s)
    drift = e.HandOver(CauseDomain.DRIFT, Rotation.ML, "drift")
    await store.submit(incident.id, drift, now_s=make.now_s + 9)

    await fire_due(store, plan, make.now_s + 9)
    await fire_due(store, plan, make.now_s + 15 * MINUTE)

    assert [
        ("L1", "ann", "pager"),
        ("handover-ml", "mia", "pager"),
        ("L1-repeat", "mia", "pager"),
        ("L2", "max", "pager"),
    ] == await paged(store, incident)


async def test_a_rotation_that_had_it_before_is_not_paged_again(store, make, plan):
    incident = await open_one(store, make)
    await fire_due(store, plan, make.now_s)
    for after_s, domain, rotation in [
        (1, CauseDomain.DRIFT, Rotation.ML),
        (2, CauseDomain.SOURCE, Rotation.DATA),
        (3, CauseDomain.DRIFT, Rotation.ML),
    ]:
        command = e.HandOver(domain, rotation, "because")
        await store.submit(incident.id, command, now_s=make.now_s + after_s)
        await fire_due(store, plan, make.now_s + after_s)

    assert ["ann", "mia", "dan"] == [target for _, target, _ in await paged(store, incident)]


async def test_what_waits_for_an_acknowledgement_costs_nothing_after_it(store, make, plan):
    incident = await open_one(store, make)
    await fire_due(store, plan, make.now_s)
    await store.submit(incident.id, e.Acknowledge("ann"), now_s=make.now_s)

    assert 0 == await fire_due(store, plan, make.now_s + 20 * MINUTE)


async def test_a_downgrade_to_a_ticket_ends_the_chain(store, make, plan):
    incident = await open_one(store, make)
    await fire_due(store, plan, make.now_s)
    mild = e.ChangeSeverity(Severity.SEV4, ("x",))
    await store.submit(incident.id, mild, now_s=make.now_s + 9)

    for minute in range(0, 300, 10):
        await fire_due(store, plan, make.now_s + minute * MINUTE)

    assert [("L1", "ann", "pager")] == await paged(store, incident)


async def test_workers_that_claim_at_the_same_time_decide_once(tmp_path, make, plan):
    url = f"sqlite+aiosqlite:///{tmp_path}/shared.db"
    stores = [Store(create_engine(url)) for _ in range(3)]
    await upgrade(stores[0]._engine)
    incidents = [await open_one(stores[0], make, group_key=f"g{n}") for n in range(30)]

    async with asyncio.TaskGroup() as group:
        for store in stores * 3:
            group.create_task(fire_due(store, plan, make.now_s + 1))

    for incident in incidents:
        assert 1 == len(await told(stores[1], incident, e.StepFired))
        assert [("L1", "ann", "pager")] == await paged(stores[2], incident)
    for store in stores:
        await store.close()
