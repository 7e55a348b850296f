"""A page that its channel does not deliver goes out on another, and the timeline says so."""

from __future__ import annotations

import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.escalation import DEFAULT_POLICY
from gpuward.coordinator.fallback import Fallback
from gpuward.coordinator.outbox import Outbox
from gpuward.coordinator.page import Refused, Retry
from gpuward.coordinator.timers import Escalation, fire_due

FALLBACK = Fallback({"ann": ("pager", "phone")}, last_resort=("mail",), after_s=60.0)


@pytest.fixture
async def incident(store, make):
    async with store.writing() as tx:
        incident = await tx.open(make.opened(), (), make.now_s)
    await fire_due(store, Escalation(DEFAULT_POLICY, make.roster), make.now_s)
    return incident


def outbox(store, clock, fallback=FALLBACK, **channels):
    return Outbox(store, channels, clock, "", fallback=fallback)


async def told(store, incident):
    record = await store.get_incident(incident.id)
    kinds = (e.PageSent, e.PageFailed, e.PageFellBack, e.PageSuppressed)
    return [at.event for at in record.timeline if isinstance(at.event, kinds)]


async def test_a_refused_page_goes_out_on_the_next_channel_at_once(store, clock, make, incident):
    pager, phone = make.notifier(Refused("status 403")), make.notifier()
    box = outbox(store, clock, pager=pager, phone=phone)
    await box.do_due()
    await box.do_due()

    key = f"inc-{incident.id}-L1"
    assert [
        e.PageFailed("L1", "ann", "pager", "status 403"),
        e.PageFellBack("L1", "ann", "pager", "phone", "status 403"),
        e.PageSent("L1", "ann", "phone", key, 1),
    ] == await told(store, incident)
    assert [key] == [message.dedup_key for message in phone.messages]


async def test_then_the_last_resort_and_then_there_is_none(store, clock, make, incident):
    channels = {name: make.notifier(Refused("no")) for name in ("pager", "phone", "mail")}
    box = outbox(store, clock, **channels)
    for _ in range(5):
        await box.do_due()

    ways = [(at.channel, getattr(at, "onto", "")) for at in await told(store, incident)]
    assert [
        ("pager", ""),
        ("pager", "phone"),
        ("phone", ""),
        ("phone", "mail"),
        ("mail", ""),
    ] == ways


async def test_a_page_that_is_not_taken_goes_out_twice_after_a_minute(store, clock, make, incident):
    """The first channel is tried on: a late page there is better than none anywhere."""
    pager, phone = make.notifier(*[Retry("down")] * 9), make.notifier()
    box = outbox(store, clock, pager=pager, phone=phone)
    sent_at = []
    for second in range(300):
        await box.do_due()
        if phone.messages and not sent_at:
            sent_at.append(second)
        await clock.advance(1.0)

    # At the first try after which the next one would be later than a minute.
    assert 20 < sent_at[0] <= 62
    assert 1 == len(phone.messages)
    fell = [at for at in await told(store, incident) if isinstance(at, e.PageFellBack)]
    assert [e.PageFellBack("L1", "ann", "pager", "phone", "down")] == fell
    assert len(pager.messages) > 7


async def test_a_channel_that_wants_a_long_pause_is_not_waited_for(store, clock, make, incident):
    pager, phone = make.notifier(Retry("status 429", after_s=300.0)), make.notifier()
    box = outbox(store, clock, pager=pager, phone=phone)
    await box.do_due()
    await box.do_due()

    assert 1 == len(phone.messages)


async def test_a_short_trouble_needs_no_other_channel(store, clock, make, incident):
    pager, phone = make.notifier(*[Retry("down")] * 3), make.notifier()
    box = outbox(store, clock, pager=pager, phone=phone)
    for _ in range(60):
        await box.do_due()
        await clock.advance(1.0)

    assert [] == phone.messages


async def test_who_was_reached_on_another_channel_is_not_paged_again(store, clock, make, incident):
    """L1-repeat goes out on every channel; one of them refuses."""
    await outbox(store, clock, pager=make.notifier(), phone=make.notifier()).do_due()
    await fire_due(store, Escalation(DEFAULT_POLICY, make.roster), make.now_s + 300)
    await clock.advance(300.0)
    mail = make.notifier()
    box = outbox(store, clock, pager=make.notifier(), phone=make.notifier(Refused("no")), mail=mail)

    await box.do_due()
    await box.do_due()

    assert len(mail.messages) <= 1
    reached = [at for at in await told(store, incident) if isinstance(at, e.PageSent)]
    assert {"L1", "L1-repeat"} == {at.level for at in reached}


async def test_what_somebody_has_taken_does_not_fall_back(store, clock, make, incident):
    class Overtaken:
        async def send(self, message):
            await store.submit(incident.id, e.Acknowledge("bob"), now_s=clock.wall_s())
            return Refused("status 403")

    phone = make.notifier()
    box = outbox(store, clock, pager=Overtaken(), phone=phone)
    await box.do_due()
    await box.do_due()

    assert [] == phone.messages
    assert [e.PageFailed("L1", "ann", "pager", "status 403")] == await told(store, incident)
