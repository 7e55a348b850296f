"""Providers are told what becomes of a page; what people do there comes back, once."""

from __future__ import annotations

import asyncio

import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.alert_looking import AlertLooking
from gpuward.coordinator.alert_telling import AlertTelling
from gpuward.coordinator.alerts import Sight
from gpuward.coordinator.escalation import DEFAULT_POLICY
from gpuward.coordinator.model import State
from gpuward.coordinator.outbox import Outbox
from gpuward.coordinator.page import Refused, Retry, Sent
from gpuward.coordinator.timers import Escalation, fire_due

ALL = frozenset({State.OPEN, State.ACKNOWLEDGED, State.RESOLVED})


class Provider:
    """Holds one alert as a provider does: told of by us, taken by people."""

    def __init__(self, tells=ALL):
        self.tells = tells
        self.state = None
        self.by = ""
        self.told = []
        self.next = []

    async def send(self, message):
        self.state = State.OPEN
        return self.next.pop(0) if self.next else Sent("ref")

    async def follow(self, alert, message):
        self.told.append((alert.reference, message.state))
        outcome = self.next.pop(0) if self.next else Sent()
        is_news = message.state != alert.told
        if is_news and message.state in self.tells and isinstance(outcome, Sent):
            self.state = State(message.state)
        return outcome

    async def look(self, alert):
        return self.next.pop(0) if self.next else Sight(self.state, self.by)

    async def close(self):
        """Nothing is open."""


class Delivery:
    """A replica with one provider, driven by hand."""

    def __init__(self, store, clock, **channels):
        self.clock = clock
        self.outbox = Outbox(store, channels, clock, "http://gpuward.test")
        self.telling = AlertTelling(store, channels, clock, "http://gpuward.test")
        self.looking = AlertLooking(store, channels, clock)

    async def quarter_minute(self):
        await self.clock.advance(15.0)
        return await self.telling.do_due(), await self.looking.do_due()


@pytest.fixture
async def incident(store, make):
    async with store.writing() as tx:
        incident = await tx.open(make.opened(), (), make.now_s)
    await fire_due(store, Escalation(DEFAULT_POLICY, make.roster), make.now_s)
    return incident


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
async def paged(store, clock, provider, incident):
    """A page that has arrived."""
    delivery = Delivery(store, clock, pager=provider)
    assert 1 == await delivery.outbox.do_due()
    return delivery


async def acknowledged(store, incident):
    record = await store.get_incident(incident.id)
    return [at.event for at in record.timeline if isinstance(at.event, e.Acknowledged)]


@pytest.mark.parametrize(
    ("state", "by", "expected"),
    [
        (State.ACKNOWLEDGED, "Ann", e.Acknowledged("Ann", "taken in pager")),
        (State.ACKNOWLEDGED, "", e.Acknowledged("somebody in pager", "taken in pager")),
        (State.RESOLVED, "Bob", e.Acknowledged("Bob", "closed in pager")),
    ],
)
async def test_who_takes_it_there_has_it_here(
    store, provider, incident, paged, *, state, by, expected
):
    """Once, however often it is seen; that it is over is judged here, not there."""
    assert 1 == (await paged.quarter_minute())[1]
    assert [] == await acknowledged(store, incident)

    provider.state, provider.by = state, by
    for _ in range(3):
        await paged.quarter_minute()

    assert [expected] == await acknowledged(store, incident)
    record = await store.get_incident(incident.id)
    assert State.ACKNOWLEDGED is record.incident.state


async def test_looks_are_a_quarter_of_a_minute_apart(clock, paged):
    await clock.advance(14.9)
    assert 0 == await paged.looking.do_due()
    await clock.advance(0.1)
    assert 1 == await paged.looking.do_due()
    assert 0 == await paged.looking.do_due()


@pytest.mark.parametrize("tells", [ALL, ALL - {State.OPEN}, frozenset({State.RESOLVED})])
async def test_an_acknowledgement_withdrawn_here_does_not_come_back(
    store, clock, provider, incident, paged, *, tells
):
    """Neither one of there, nor our own as it is seen there; a new one counts."""
    provider.tells = tells
    provider.state, provider.by = State.ACKNOWLEDGED, "Ann"
    await paged.quarter_minute()
    await store.submit(incident.id, e.Unacknowledge("bob", "wrong"), now_s=clock.wall_s())

    for _ in range(3):
        await paged.quarter_minute()
    assert 1 == len(await acknowledged(store, incident))

    provider.state, provider.by = State.OPEN, ""
    await paged.quarter_minute()
    provider.state, provider.by = State.ACKNOWLEDGED, "Eve"
    await paged.quarter_minute()
    assert e.Acknowledged("Eve", "taken in pager") == (await acknowledged(store, incident))[-1]


async def test_our_own_acknowledgement_is_not_taken_for_a_persons(
    store, clock, provider, incident, paged
):
    await store.submit(incident.id, e.Acknowledge("bob"), now_s=clock.wall_s())
    await clock.advance(5.0)
    await paged.telling.do_due()
    await store.submit(incident.id, e.Unacknowledge("bob", "wrong"), now_s=clock.wall_s())
    provider.tells = ALL - {State.OPEN}

    for _ in range(3):
        await paged.quarter_minute()

    assert [e.Acknowledged("bob")] == await acknowledged(store, incident)


async def test_two_providers_at_once(store, clock, make, incident):
    """Taken in both, by two people: one has it."""
    first, second = Provider(), Provider()
    both = Delivery(store, clock, pager=first, phone=second)
    await clock.advance(300.0)
    await fire_due(store, Escalation(DEFAULT_POLICY, make.roster), clock.wall_s())
    assert 3 == await both.outbox.do_due()
    first.state = second.state = State.ACKNOWLEDGED
    first.by, second.by = "Ann", "Bob"

    await both.quarter_minute()

    assert 1 == len(await acknowledged(store, incident))


async def test_two_replicas_look_at_the_same(store, clock, provider, incident, paged):
    other = Delivery(store, clock, pager=provider)
    provider.state, provider.by = State.ACKNOWLEDGED, "Ann"
    await clock.advance(15.0)

    async with asyncio.TaskGroup() as group:
        for one in (paged, other, paged, other):
            group.create_task(one.looking.do_due())

    assert 1 == len(await acknowledged(store, incident))


async def test_what_becomes_of_it_is_told_until_the_end(store, clock, provider, incident, paged):
    for command in (e.Acknowledge("bob"), e.Note("bob", "hm"), e.Resolve("bob")):
        await store.submit(incident.id, command, now_s=clock.wall_s())
        await clock.advance(5.0)
        assert 1 == await paged.telling.do_due()

    assert [("ref", "acknowledged")] * 2 + [("ref", "resolved")] == provider.told
    assert (0, 0) == await paged.quarter_minute()


async def test_what_happens_within_five_seconds_is_told_once(
    store, clock, provider, incident, paged
):
    await clock.advance(5.0)
    await paged.telling.do_due()
    for text in "abc":
        await store.submit(incident.id, e.Note("bob", text), now_s=clock.wall_s())
        assert 0 == await paged.telling.do_due()

    await clock.advance(5.0)
    assert 1 == await paged.telling.do_due()
    assert 2 == len(provider.told)


async def test_what_was_not_taken_is_told_again(store, clock, provider, incident, paged):
    provider.next = [Retry("down"), Retry("busy", after_s=60.0)]
    await store.submit(incident.id, e.Resolve("bob"), now_s=clock.wall_s())
    for early_s, late_s in ((4.9, 5.0), (1.4, 2.0), (59.9, 60.0)):
        await clock.advance(early_s)
        assert 0 == await paged.telling.do_due()
        await clock.advance(late_s - early_s)
        assert 1 == await paged.telling.do_due()

    assert State.RESOLVED is provider.state


async def test_what_cannot_be_told_is_on_the_timeline(store, clock, provider, incident, paged):
    provider.next = [Refused("status 403")]
    await clock.advance(5.0)
    await paged.telling.do_due()

    record = await store.get_incident(incident.id)
    said = "pager cannot be told what becomes of it: status 403"
    assert e.Noted(e.MACHINE, said) == record.timeline[-1].event
    assert (0, 0) == await paged.quarter_minute()


async def test_a_page_that_may_have_arrived_is_taken_back(store, clock, provider, incident):
    """Taken, the answer lost, then acknowledged here: it would ring there until somebody came."""
    provider.next = [Retry("no answer within 15 s")]
    delivery = Delivery(store, clock, pager=provider)
    await delivery.outbox.do_due()
    await store.submit(incident.id, e.Acknowledge("bob"), now_s=clock.wall_s())
    await clock.advance(2.0)
    await delivery.outbox.do_due()

    await delivery.quarter_minute()

    assert [("", "acknowledged")] == provider.told
    assert State.ACKNOWLEDGED is provider.state


async def test_a_page_that_never_left_is_not(store, clock, provider, incident):
    await store.submit(incident.id, e.Acknowledge("bob"), now_s=clock.wall_s())
    delivery = Delivery(store, clock, pager=provider)
    await delivery.outbox.do_due()

    assert (0, 0) == await delivery.quarter_minute()


async def test_a_provider_that_cannot_be_read_harms_nobody(store, clock, provider, incident, paged):
    """It is asked again, later where it wants that; the last look counts."""
    provider.next = [Refused("status 401"), Retry("status 429", after_s=40.0)]
    provider.state, provider.by = State.ACKNOWLEDGED, "Ann"
    asked = []
    for _ in range(6):
        await clock.advance(15.0)
        asked.append(await paged.looking.do_due())

    assert [1, 1, 0, 0, 1, 1] == asked
    assert 1 == len(await acknowledged(store, incident))


async def test_a_channel_that_is_no_longer_configured(store, clock, incident, paged):
    bare = Delivery(store, clock)

    assert (1, 0) == await bare.quarter_minute()
    record = await store.get_incident(incident.id)
    assert "no notifier of the kind is named pager" in record.timeline[-1].event.text
