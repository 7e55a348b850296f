"""A node whose driver is being changed on purpose: evidence, no incident; silence is still told."""

from __future__ import annotations

import pytest

from gpuward.coordinator.intake import Intake
from gpuward.coordinator.model import CauseDomain, FindingClass, Subject
from gpuward.coordinator.watch_nodes import judge_nodes

PAGE, STORE = FindingClass.PAGE, FindingClass.STORE
NODE = Subject("n1")
GPU = Subject("n1", "GPU-1")


@pytest.fixture
async def take(store, make):
    """Take the reports of node n1, one after the other."""
    intake = Intake(store)
    hello = {"boot_id": "b", "agent_version": "1", "query_address": ""}
    session = await intake.open_session("n1", make.now_s, **hello)
    seqs = iter(range(1, 100))

    async def take(findings, **values):
        await intake.take(session, make.report(next(seqs), findings, **values), make.now_s)

    return take


@pytest.fixture
def maintenance(make):
    return make.finding(
        "m1", kind="node.maintenance", subject=NODE, default_class=STORE, domain=CauseDomain.DRIVER
    )


@pytest.fixture
def lost(make, maintenance):
    """A lost GPU, seen in the maintenance or, of another class, outside of it."""

    def lost(default_class):
        causes = (maintenance.dedup_key,) if default_class is STORE else ()
        return make.finding(
            "f1",
            kind="gpu.lost",
            subject=GPU,
            default_class=default_class,
            domain=CauseDomain.GPU,
            cause_dedup_keys=causes,
        )

    return lost


async def listed(store):
    return [(i.kind, i.severity.name, i.state.value) for i in await store.list_incidents()]


async def test_a_fault_in_maintenance_opens_nothing(store, take, lost, maintenance):
    await take([maintenance])
    await take([maintenance, lost(STORE)])
    await take([maintenance])
    await take([])

    assert await listed(store) == []


async def test_a_fault_that_outlasts_it_opens_an_incident(store, take, lost, maintenance):
    await take([maintenance, lost(STORE)])
    await take([lost(STORE)])
    assert await listed(store) == []

    await take([lost(PAGE)])
    assert await listed(store) == [("gpu.lost", "SEV2", "open")]


async def test_an_incident_from_before_it_stays_and_is_the_same_after_it(
    store, take, lost, maintenance
):
    """Whoever repairs the GPU has been told; a second incident would tell them again."""
    await take([lost(PAGE)])
    await take([maintenance, lost(STORE)])
    during = await listed(store)
    await take([lost(PAGE)])

    assert during == await listed(store) == [("gpu.lost", "SEV2", "open")]


async def test_what_happened_once_in_it_opens_nothing(store, take, make, maintenance):
    """An XID of a reset, also one that arrives when the maintenance is over."""
    xid = make.finding(
        "e1", kind="gpu.xid", subject=GPU, default_class=STORE, cleared_at_s=make.now_s
    )
    await take([maintenance])
    await take([], events=[(1, xid)])

    assert await listed(store) == []


@pytest.mark.parametrize(
    ("silent_s", "kinds"),
    [
        pytest.param(45.0, [], id="45 s"),
        pytest.param(45.1, ["node.overdue"], id="more than 45 s"),
    ],
)
async def test_a_silent_agent_is_told_in_maintenance_too(store, take, maintenance, silent_s, kinds):
    """The agent goes on reporting while it lets go of the driver: if it does not, it is gone."""
    await take([maintenance])
    await judge_nodes(store, listening_since_s=0.0, now_s=maintenance.last_seen_s + silent_s)

    assert [kind for kind, _, _ in await listed(store)] == kinds
