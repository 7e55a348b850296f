"""Reports are taken in once, in order, from the newest session only."""

from __future__ import annotations

import pytest
from sqlalchemy.event import listen

from gpuward.coordinator import store_reports
from gpuward.coordinator.calm import close_calm
from gpuward.coordinator.filing import Stored, Superseded
from gpuward.coordinator.intake import Intake
from gpuward.coordinator.model import FindingClass, Severity, State, Subject
from gpuward.coordinator.watch_nodes import judge_nodes


@pytest.fixture
def intake(store):
    return Intake(store)


@pytest.fixture
def take(intake, make):
    """Take a report of a node's newest session, or of an older one."""
    sessions = {}

    async def hello(node="n1", now_s=make.now_s):
        values = {"boot_id": "b", "agent_version": "1", "query_address": ""}
        sessions[node] = await intake.open_session(node, now_s, **values)
        return sessions[node]

    async def take(*args, session=None, now_s=make.now_s, **values):
        report = make.report(*args, **values)
        if session is None:
            session = sessions.get(report.node) or await hello(report.node)
        return await intake.take(session, report, now_s)

    take.hello = hello
    return take


async def listed(store):
    return [(i.kind, i.severity.name, i.state.value) for i in await store.list_incidents()]


async def test_a_ticket_opens_sev4_and_closes_ten_minutes_after_it_cleared(store, make, take):
    xid = make.finding(kind="gpu.xid")
    await take(1, [xid])
    assert [("gpu.xid", "SEV4", "open")] == await listed(store)

    await take(2, [])
    await close_calm(store, speed=1.0, now_s=make.now_s + 599)
    assert [("gpu.xid", "SEV4", "open")] == await listed(store)
    await close_calm(store, speed=1.0, now_s=make.now_s + 600)
    assert [("gpu.xid", "SEV4", "resolved")] == await listed(store)


async def test_a_hard_fault_waits_for_a_person_when_it_is_over(store, make, take):
    await take(1, [make.finding(default_class=FindingClass.PAGE)])
    await take(2, [])
    await close_calm(store, speed=1.0, now_s=make.now_s + 601)
    assert [("process.memory.fragmentation", "SEV2", "mitigated")] == await listed(store)

    await take(3, [make.finding("f2", default_class=FindingClass.PAGE)])

    assert [("process.memory.fragmentation", "SEV2", "open")] == await listed(store)


async def test_the_same_report_twice_changes_nothing(store, make, take):
    first = await take(1, [make.finding()], events=[(7, make.finding("e", kind="gpu.xid"))])
    before = [await store.get_incident(i.id) for i in await store.list_incidents()]

    again = await take(1, [make.finding()], events=[(7, make.finding("e", kind="gpu.xid"))])

    assert Stored(7) == first == again
    assert before == [await store.get_incident(i.id) for i in await store.list_incidents()]


async def test_an_older_report_that_comes_late_changes_nothing(store, make, take):
    await take(2, [make.finding()])
    await take(1, [])

    assert [("process.memory.fragmentation", "SEV4", "open")] == await listed(store)
    (incident,) = await store.list_incidents()
    assert [True] == [f.is_open for f in incident.findings]


async def test_a_restarted_agent_counts_from_one_again(store, make, take):
    await take(900, [make.finding()])
    await take(1, [], agent="a2")

    (incident,) = await store.list_incidents()
    assert [False] == [f.is_open for f in incident.findings]


async def test_a_replaced_session_may_not_write(store, make, take):
    old = await take.hello()
    await take.hello()

    assert Superseded() == await take(1, [make.finding()], session=old)
    assert [] == await listed(store)


async def test_an_event_opens_one_incident_however_often_it_is_sent(store, make, take):
    """Its spool sends it until acknowledged, in any number of reports."""
    event = (3, make.finding("e1", kind="gpu.xid", cleared_at_s=make.now_s))

    assert Stored(3) == await take(1, events=[event])
    assert Stored(3) == await take(2, events=[event])
    assert Stored(4) == await take(3, events=[event, (4, event[1])])

    (incident,) = await store.list_incidents()
    assert (1, Severity.SEV4) == (len(incident.findings), incident.severity)
    assert incident.quiet_since_s is not None


async def test_a_spool_that_began_again_is_not_mistaken_for_the_old_one(store, make, take):
    await take(1, events=[(3, make.finding("e1", kind="gpu.xid", cleared_at_s=make.now_s))])
    await take(2, events=[(3, make.finding("e2", kind="gpu.xid", cleared_at_s=make.now_s))])

    (incident,) = await store.list_incidents()
    assert ["e1", "e2"] == [f.finding_id for f in incident.findings]


async def test_a_finding_that_gets_worse_pages(store, make, take):
    hung = make.finding(kind="driver.unresponsive", subject=Subject("n1"))
    await take(1, [hung])
    await take(
        2,
        [
            make.finding(
                kind="driver.unresponsive", subject=Subject("n1"), default_class=FindingClass.PAGE
            )
        ],
    )

    assert [("driver.unresponsive", "SEV2", "open")] == await listed(store)


async def test_a_person_may_close_what_the_node_still_reports(store, make, take):
    """The next report of the same finding opens nothing new."""
    from gpuward.coordinator import events as e

    await take(1, [make.finding()])
    (incident,) = await store.list_incidents()
    await store.submit(incident.id, e.Resolve("ann", "known"), now_s=make.now_s)

    await take(2, [make.finding(count=2, last_seen_s=make.now_s + 9)])

    assert [("process.memory.fragmentation", "SEV4", "resolved")] == await listed(store)


async def test_nodes_of_one_storm_do_not_mix(store, make, take):
    for n in range(5):
        await take(1, [make.finding(f"f{n}", subject=Subject(f"n{n}", "GPU-1"))], node=f"n{n}")
    await take(2, [], node="n0")

    open_findings = [i.findings[0].is_open for i in await store.list_incidents()]
    assert [False, True, True, True, True] == sorted(open_findings)


@pytest.fixture
def judge(store, intake):
    """Judge nodes as the loop does."""

    async def judge(now_s, since_s=0.0):
        await intake.flush()
        await judge_nodes(store, listening_since_s=since_s, now_s=now_s)

    return judge


async def test_many_silent_nodes_are_one_change_of_one_incident(store, make, take, judge):
    """Else an outage of a rack would keep the store busy for minutes, growing with its square."""
    for n in range(100):
        await take(1, node=f"n{n}")
    statements = []
    listen(
        store._engine.sync_engine,
        "before_cursor_execute",
        lambda conn, cursor, statement, *_: statements.append(statement),
    )

    await judge(make.now_s + 46)

    (incident,) = await store.list_incidents()
    assert 100 == len(incident.findings)
    # The first node opens it, the others join at once, the share of silent agents sets severity.
    assert 3 == sum(text.startswith("UPDATE incident ") for text in statements)


async def test_a_silent_node_is_an_incident_until_it_reports_again(store, make, take, judge):
    for n in range(5):
        await take(1, node=f"n{n}")
    for n in range(1, 5):
        await take(2, node=f"n{n}", now_s=make.now_s + 40)
    await judge(make.now_s + 45)
    assert [] == await listed(store)

    await judge(make.now_s + 46)
    await judge(make.now_s + 47)
    (incident,) = await store.list_incidents()
    assert ("node.overdue", Severity.SEV4) == (incident.kind, incident.severity)
    assert "node n0 has not reported for 46 s" == incident.title

    await take(2, node="n0", now_s=make.now_s + 50)
    (incident,) = await store.list_incidents()
    assert [False] == [f.is_open for f in incident.findings]


async def test_many_silent_nodes_are_one_incident_that_pages(store, make, take, judge):
    for n in range(8):
        await take(1, node=f"n{n}", now_s=make.now_s + (40 if n > 2 else n))
    for wait_s in (46, 47, 48):
        await judge(make.now_s + wait_s)

    (incident,) = await store.list_incidents()

    assert (3, Severity.SEV3) == (len(incident.findings), incident.severity)
    # A quarter was enough, two seconds ago.
    assert "2 of 8 agents are silent" == incident.reasons[0]


async def test_a_coordinator_that_was_away_gives_nodes_their_time(store, make, take, judge):
    await take(1)

    await judge(make.now_s + 9000, since_s=make.now_s + 8960)
    assert [] == await listed(store)
    await judge(make.now_s + 9006, since_s=make.now_s + 8960)
    assert 1 == len(await listed(store))


async def test_a_node_away_as_planned_is_not_missed(store, make, take, judge):
    await take(1)
    async with store.writing() as tx:
        await store_reports.update_node(tx.connection, "n1", drain_until_s=make.now_s + 600)

    await judge(make.now_s + 599)
    assert [] == await listed(store)
    await judge(make.now_s + 600)
    assert [("node.overdue", "SEV3", State.OPEN.value)] == await listed(store)
