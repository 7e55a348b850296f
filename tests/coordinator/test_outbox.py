"""Pages leave at least once, under one key, and not after they have become pointless."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from gpuward.coordinator import events as e
from gpuward.coordinator.escalation import DEFAULT_POLICY
from gpuward.coordinator.model import Action, Page, Relation, Until
from gpuward.coordinator.outbox import Outbox, backoff_s
from gpuward.coordinator.page import Refused, Retry, Sent, as_text, render
from gpuward.coordinator.timers import Escalation, fire_due


@pytest.fixture
async def incident(store, make):
    async with store.writing() as tx:
        incident = await tx.open(make.opened(), (), make.now_s)
    await fire_due(store, Escalation(DEFAULT_POLICY, make.roster), make.now_s)
    return incident


def outbox(store, clock, notifier):
    return Outbox(store, {"pager": notifier}, clock, "http://gpuward.test")


async def test_a_page_is_sent_once(store, clock, make, incident):
    pager = make.notifier()

    assert 1 == await outbox(store, clock, pager).do_due()
    assert 0 == await outbox(store, clock, pager).do_due()

    (message,) = pager.messages
    assert (f"inc-{incident.id}-L1", "ann") == (message.dedup_key, message.target)
    assert f"http://gpuward.test/incidents/{incident.id}" == message.url
    (page,) = (await store.get_incident(incident.id)).pages
    assert (clock.wall_s(), 1) == (page.sent_at_s, page.attempts)


@pytest.mark.parametrize(
    ("outcome", "early_s", "late_s"),
    [
        pytest.param(Retry("status 503"), 1.4, 2.0, id="own backoff"),
        pytest.param(Retry("status 429", after_s=30.0), 29.9, 30.0, id="as the channel asked"),
    ],
)
async def test_a_page_that_failed_is_tried_again_with_the_same_key(
    store, clock, make, incident, *, outcome, early_s, late_s
):
    pager = make.notifier(outcome)
    box = outbox(store, clock, pager)
    await box.do_due()
    await clock.advance(early_s)
    assert 0 == await box.do_due()

    await clock.advance(late_s - early_s)
    assert 1 == await box.do_due()

    assert pager.messages[0].dedup_key == pager.messages[1].dedup_key
    assert pager.messages[0].id == pager.messages[1].id
    record = await store.get_incident(incident.id)
    assert e.PageSent("L1", "ann", "pager", f"inc-{incident.id}-L1", 2) == record.timeline[-1].event


async def test_backoff_doubles_up_to_two_minutes(store, clock, make, incident):
    """Less up to a quarter, by page and attempt: what failed together does not come together."""
    pager = make.notifier(*[Retry("down")] * 10)
    box, waits = outbox(store, clock, pager), []
    for _ in range(9):
        await box.do_due()
        (page,) = (await store.get_incident(incident.id)).pages
        waits.append(page.due_at_s - clock.wall_s())
        await clock.advance(waits[-1])

    limits = [2, 4, 8, 16, 32, 64, 120, 120, 120]
    assert all(0.75 * limit < wait <= limit for limit, wait in zip(limits, waits, strict=True))
    assert len(set(waits[-3:])) == 3


@pytest.mark.parametrize("attempts", [1, 7, 8, 1_024, 10**6])
def test_backoff_after_however_many_attempts(attempts):
    """A provider may be down for days."""
    limit = min(120.0, 2.0 ** min(attempts, 9))
    assert 0.75 * limit < backoff_s(1, attempts) <= limit
    assert backoff_s(1, attempts) == backoff_s(1, attempts)
    assert len({backoff_s(row, attempts) for row in range(20)}) == 20


async def test_a_refused_page_is_said_and_not_repeated(store, clock, make, incident):
    await outbox(store, clock, make.notifier(Refused("status 401"))).do_due()

    record = await store.get_incident(incident.id)
    assert e.PageFailed("L1", "ann", "pager", "status 401") == record.timeline[-1].event
    assert record.pages[0].abandoned_at_s is not None


async def test_a_channel_that_nobody_configured(store, clock, incident):
    await Outbox(store, {}, clock, "").do_due()

    record = await store.get_incident(incident.id)
    failed = e.PageFailed("L1", "ann", "pager", "no notifier is named pager")
    assert failed == record.timeline[-1].event


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        pytest.param(e.Acknowledge("bob"), "acknowledged", id="acknowledged"),
        pytest.param(e.Resolve("bob"), "resolved", id="resolved"),
    ],
)
async def test_a_page_overtaken_by_a_person_does_not_leave(
    store, clock, make, incident, *, command, reason
):
    pager = make.notifier()
    await store.submit(incident.id, command, now_s=make.now_s)

    await outbox(store, clock, pager).do_due()

    assert [] == pager.messages
    record = await store.get_incident(incident.id)
    assert e.PageSuppressed("L1", "ann", "pager", reason) == record.timeline[-1].event


async def test_a_lease_of_the_dead_runs_out(store, clock, make, incident):
    """Killed between sending and marking: sent again after the lease, under the same key."""

    class Killed(BaseException):
        pass

    class Killer:
        async def send(self, message):
            raise Killed

    with pytest.raises(BaseExceptionGroup):
        await outbox(store, clock, Killer()).do_due()
    pager = make.notifier()
    await clock.advance(29.9)
    assert 0 == await outbox(store, clock, pager).do_due()

    await clock.advance(0.2)
    await outbox(store, clock, pager).do_due()

    assert [f"inc-{incident.id}-L1"] == [message.dedup_key for message in pager.messages]


async def test_a_database_that_fails_while_a_page_is_on_its_way_stops_nobody(
    store, clock, make, incident
):
    """What cannot be marked as sent goes out again when its lease has run out, under one key."""
    pager = make.notifier()

    class Unmarkable:
        async def send(self, message):
            await rename(store, "sent_at_s", "away")
            return await pager.send(message)

    box = outbox(store, clock, Unmarkable())
    assert 1 == await box.do_due()
    await rename(store, "away", "sent_at_s")

    await clock.advance(30.1)
    assert 1 == await outbox(store, clock, pager).do_due()

    first, second = pager.messages
    assert first.dedup_key == second.dedup_key
    (page,) = (await store.get_incident(incident.id)).pages
    assert (clock.wall_s(), 2) == (page.sent_at_s, page.attempts)


async def rename(store, column, name):
    async with store.writing() as tx:
        await tx.connection.execute(text(f"ALTER TABLE outbox RENAME COLUMN {column} TO {name}"))


async def test_two_replicas_send_one_page(store, clock, make, incident):
    pager = make.notifier()

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(outbox(store, clock, pager).do_due())

    assert 1 == len(pager.messages)


async def test_a_slow_channel_does_not_hold_up_another(store, clock, make, incident):
    """A page on its way stays on its way while the next ones leave."""
    arrived, quick_done = [], asyncio.Event()

    class Slow:
        async def send(self, message):
            await quick_done.wait()
            return Sent()

    class Quick:
        async def send(self, message):
            arrived.append(message.level)
            quick_done.set()
            return Sent()

    box = Outbox(store, {"pager": Slow(), "phone": Quick()}, clock, "")
    async with asyncio.TaskGroup() as group:
        await box.start_due(group)
        await fire_due(store, Escalation(DEFAULT_POLICY, make.roster), make.now_s + 300)
        await clock.advance(300)
        await box.start_due(group)

    assert ["L1-repeat"] == arrived


@pytest.mark.parametrize(
    ("began_s", "impact_s", "since"),
    [
        pytest.param(-61.0, None, "07:58 UTC", id="the report waited for a way"),
        pytest.param(5.0, None, "08:00 UTC", id="a node's clock is ahead"),
        pytest.param(-43_199.0, None, "20:00 UTC", id="half a day"),
        pytest.param(-43_200.0, None, "14 Jan 20:00 UTC", id="the day before"),
        pytest.param(-61.0, -600.0, "07:50 UTC", id="users were hurt"),
    ],
)
def test_the_page_says_since_when_it_is(make, began_s, impact_s, since):
    """Not when the coordinator heard of it."""
    incident = make.incident()
    finding = make.finding(kind=incident.kind, since_s=incident.opened_at_s + began_s)
    impact_since_s = None if impact_s is None else incident.opened_at_s + impact_s
    incident = replace(
        incident,
        findings=(make.linked(finding, Relation.NODE),),
        impact_since_s=impact_since_s,
    )
    page = Page(7, incident.id, "L1", "ann", "pager", "inc-1-L1", Until.ACKNOWLEDGED, make.now_s)

    message = render(page, incident, [finding], "http://gpuward.test")

    assert message.summary.endswith(f" since {since}")


def test_the_page_says_what_matters_first(make):
    """The first line stands alone, in what a lock screen shows."""
    cause = make.finding(
        summary="vllm strands 11.8 GiB of GPU-1", action=Action.RESTART_APPLICATION
    )
    incident = replace(
        make.incident(), title="chat: requests fail" + "x" * 200, findings=(make.linked(cause),)
    )
    page = Page(7, incident.id, "L1", "ann", "pager", "inc-1-L1", Until.ACKNOWLEDGED, make.now_s)

    message = render(page, incident, [cause], "http://gpuward.test")

    assert len(message.summary) == 130
    assert message.summary.startswith("SEV2 chat: requests failxxx")
    assert message.summary.endswith("... since 08:00 UTC")
    assert "inc-1-L1-7" == message.id
    assert as_text(message).splitlines()[1:] == [
        "  impact: 20.0% of 600 requests failed",
        "  cause:  vllm strands 11.8 GiB of GPU-1",
        "  next:   restart application",
        "  http://gpuward.test/incidents/01INCIDENT",
    ]
