"""The incidents of a card are found by its serial and its UUID, on whichever node it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator import store_incidents
from gpuward.coordinator.model import Relation, Subject

UUID, SERIAL = "GPU-3c0f2b5e", "1652622031501"


@pytest.fixture
async def card(monkeypatch, store, make):
    """A card's history: by an earlier version, then moved, twice; beside another's."""
    monkeypatch.setattr(store_incidents, "SEARCHED_AT_ONCE", 2)

    async def open_one(number, subject, **of_link):
        finding = make.finding(f"f{number}", kind="gpu.xid", subject=subject)
        link = replace(make.linked(finding, Relation.SUBJECT), **of_link)
        opened = make.opened(group_key=f"g{number}", node=subject.node, service="")
        async with store.writing() as tx:
            incident = await tx.open(opened, [e.LinkFinding(link)], make.now_s + number)
        return incident.id

    moved = Subject("n2", UUID, gpu_serial=SERIAL)
    before = await open_one(1, Subject("n1", UUID), gpu_uuid="", gpu_serial="")
    await store.submit(before, e.Resolve("ann"), now_s=make.now_s + 1)
    await open_one(2, Subject("n1", "GPU-another", gpu_serial="165"))
    return [await open_one(4, moved), await open_one(3, moved), before]


@pytest.mark.parametrize("name", [UUID, SERIAL])
async def test_it_goes_with_the_card(store, card, name):
    """Newest first, resolved ones too, those of an earlier version by the UUID of the serial."""
    assert [incident.id for incident in await store.incidents_of_gpu(name)] == card


async def test_the_newest_of_many(store, card):
    assert [incident.id for incident in await store.incidents_of_gpu(SERIAL, 2)] == card[:2]


@pytest.mark.parametrize("name", ["165262203150", "n1", "gpu.xid", "%", '"', "\x00", "GPU-"])
async def test_what_names_no_card(store, card, name):
    """The whole name, and of a card."""
    assert card
    assert await store.incidents_of_gpu(name) == ()
