"""Reports that change no state wait to be written, and nothing that matters waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from gpuward.coordinator import store_reports
from gpuward.coordinator.filing import Stored, Superseded
from gpuward.coordinator.heard import Heard
from gpuward.coordinator.intake import Intake
from gpuward.coordinator.model import Evidence, FindingClass, Severity, Subject
from gpuward.coordinator.report import Sight, SignOfLife
from gpuward.coordinator.store import Store
from gpuward.coordinator.store_dialect import create_engine
from gpuward.coordinator.store_schema import metadata
from gpuward.coordinator.watch_nodes import judge_nodes

HELLO = {"boot_id": "b", "agent_version": "1", "query_address": ""}


class Replica:
    """A coordinator's intake, and the session of node n1 with it."""

    def __init__(self, store, make, now_s):
        self.store, self.make, self.now_s = store, make, now_s
        self.intake = Intake(store)
        self.session = None

    async def open(self):
        self.session = await self.intake.open_session("n1", self.now_s, **HELLO)
        return self

    async def take(self, seq, findings=(), after_s=0.0, **values):
        self.now_s += after_s
        report = self.make.report(seq, findings, **values)
        return await self.intake.take(self.session, report, self.now_s)

    async def known(self):
        async with self.store.reading() as connection:
            (life,) = await store_reports.load_lives(connection)
            findings = await store_reports.load_open_findings(connection)
            totals = await store_reports.load_totals(connection, 0.0, "chat")
        return life.last_seen_s - self.make.now_s, findings, [t.requests for t in totals]


@pytest.fixture
async def replica(store, make):
    return await Replica(store, make, make.now_s).open()


@pytest.fixture
def commits(store):
    count = Counter()

    @event.listens_for(store._engine.sync_engine, "before_cursor_execute")
    def seen(_connection, _cursor, statement, *_rest):
        count["written"] += statement == "BEGIN IMMEDIATE"

    return count


async def test_a_report_that_changes_nothing_costs_no_transaction(replica, commits, make):
    await replica.take(1, [make.finding()])
    assert 1 == commits["written"]

    for seq in range(2, 30):
        newer = make.finding(count=seq, last_seen_s=make.now_s + seq)
        reading = make.totals(make.now_s + seq, requests=seq)
        assert Stored(0) == await replica.take(seq, [newer], after_s=1, totals=[reading])
    assert 1 == commits["written"]

    await replica.intake.flush()
    await replica.intake.flush()
    assert 2 == commits["written"]
    heard_s, (finding,), requests = await replica.known()
    assert (28, 29, [29]) == (heard_s, finding.count, requests)


async def test_what_changes_is_written_before_the_answer(replica, make):
    await replica.take(1)
    await replica.take(2, [make.finding()])
    assert ["f1"] == [f.finding_id for f in (await replica.known())[1]]

    await replica.take(3)
    assert () == (await replica.known())[1]


async def test_what_waits_is_written_with_what_changes(replica, make):
    await replica.take(1, totals=[make.totals(make.now_s, requests=1)])
    await replica.take(2, totals=[make.totals(make.now_s + 1, requests=2)], after_s=1)
    await replica.take(
        3, [make.finding()], totals=[make.totals(make.now_s + 2, requests=3)], after_s=1
    )

    heard_s, _, requests = await replica.known()
    # Of one run of an instance the newest reading says what the one before said.
    assert (2, [1, 3]) == (heard_s, sorted(requests))


async def test_the_counters_of_both_runs_of_an_instance_are_kept(replica, make):
    first = make.totals(make.now_s, requests=900)
    again = make.totals(make.now_s + 2, requests=5, started_at_s=make.now_s + 1)
    await replica.take(1)
    await replica.take(2, totals=[first], after_s=1)
    await replica.take(3, totals=[again], after_s=1)
    await replica.intake.flush()

    assert [5, 900] == sorted((await replica.known())[2])


async def test_a_finding_of_which_only_the_sight_is_new(replica, make):
    finding, newer = make.finding(), make.finding("f2", evidence=(Evidence("n", 1.0),))
    await replica.take(1, [finding])

    async def seen(seq, findings, *times):
        sights = {f"f{n}": Sight(make.now_s + seq, count) for n, count in enumerate(times, 1)}
        await replica.take(seq, findings, after_s=1, sights=sights)
        return [(f.last_seen_s - make.now_s, f.count) for f in (await replica.known())[1]]

    assert [(0, 1)] == await seen(2, [finding], 7)
    await replica.intake.flush()
    assert [(3, 9), (3, 1)] == await seen(3, [finding, newer], 9, 1)
    other = replace(newer, evidence=(Evidence("n", 2.0),))
    await seen(4, [finding, other], 10, 2)
    await replica.intake.flush()
    _, (one, two), _ = await replica.known()
    assert (10, 2) == (one.count, two.count)
    assert (Evidence("n", 2.0),) == two.evidence


async def test_readings_of_what_has_cleared_do_not_open_it_again(replica, make):
    await replica.take(1, [make.finding()])
    await replica.take(2, [make.finding(count=2)])
    await replica.take(3)
    await replica.intake.flush()

    assert () == (await replica.known())[1]


async def test_a_finding_that_turns_loud_does_not_wait(replica, store, make):
    await replica.take(1, [make.finding(default_class=FindingClass.STORE)])
    await replica.take(2, [make.finding(default_class=FindingClass.STORE, count=2)])
    assert () == await store.list_incidents()

    await replica.take(3, [make.finding(default_class=FindingClass.PAGE)])
    assert [Severity.SEV2] == [i.severity for i in await store.list_incidents()]


async def test_instances_that_come_and_go_are_written_at_once(replica, commits, make):
    """What may wait is bounded: 1,000 readings a node."""

    async def take(seq):
        names = [f"{seq}-{n}" for n in range(500)]
        readings = [make.totals(make.now_s + seq, 1, instance=name) for name in names]
        await replica.take(seq, totals=readings)
        return commits["written"]

    assert [1, 1, 1, 1, 2] == [await take(seq) for seq in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("after_s", "written"),
    [pytest.param(30, 1, id="trusted"), pytest.param(31, 2, id="may be called silent by others")],
)
async def test_a_node_that_the_database_has_not_heard_is_compared_again(
    replica, commits, after_s, written
):
    await replica.take(1)
    await replica.take(2, after_s=after_s)

    assert written == commits["written"]


async def test_silence_that_another_replica_saw_ends_with_the_next_report(replica, store, make):
    await replica.take(1)
    await judge_nodes(store, listening_since_s=0, now_s=make.now_s + 46)
    assert ["node.overdue"] == [f.kind for f in (await replica.known())[1]]

    await replica.take(2, after_s=47)

    assert () == (await replica.known())[1]


async def test_another_replica_takes_the_node_over(replica, store, make):
    """The old session cannot change state any more, nor say that the node lives."""
    await replica.take(1, [make.finding()])
    other = await Replica(store, make, make.now_s + 5).open()
    await other.take(1, agent="a2")

    await replica.take(2, [make.finding()], after_s=9)
    await replica.intake.flush()
    assert Superseded() == await replica.take(3, [make.finding("f2")])

    heard_s, findings, _ = await other.known()
    assert (5, ()) == (heard_s, findings)


async def test_a_replaced_session_cannot_even_say_that_its_node_lives(replica):
    old = replica.session
    await replica.open()
    await replica.take(1)
    replica.session = old

    assert Superseded() == await replica.take(2)


async def test_nodes_that_share_a_commit_do_not_mix(replica, store, make):
    """What one node does not list has not cleared on another."""
    nodes = ["n1", "n2", "n3", "n4"]
    sessions = {n: await replica.intake.open_session(n, make.now_s, **HELLO) for n in nodes}

    async def all_report(seq, *ids):
        async with asyncio.TaskGroup() as group, store.writing():
            for node in nodes:
                found = [make.finding(f"{node}/{i}", subject=Subject(node)) for i in ids]
                report = make.report(seq, found, node=node)
                taken = replica.intake.take(sessions[node], report, make.now_s)
                group.create_task(taken)
            await asyncio.sleep(0.01)
        async with store.reading() as connection:
            return [f.finding_id for f in await store_reports.load_open_findings(connection)]

    assert ["n1/a", "n2/a", "n3/a", "n4/a"] == await all_report(1, "a")
    assert [f"{n}/{i}" for n in nodes for i in "ab"] == await all_report(2, "a", "b")
    assert ["n1/b", "n2/b", "n3/b", "n4/b"] == await all_report(3, "b")


async def test_evidence_that_comes_late_does_not_open_what_has_cleared(replica, store, make):
    """Another replica may have taken the report that cleared it."""
    await replica.take(1, [make.finding()])
    await replica.take(2)
    async with store.writing() as tx:
        await store_reports.refresh_findings(tx.connection, [make.finding(count=9)])
        (finding,) = await store_reports.load_findings(tx.connection, ["f1"])

    assert (1, False) == (finding.count, finding.is_open)


def life_of(make, seq, *findings, runs=()):
    totals = [make.totals(make.now_s, seq, instance=name) for name in runs]
    return SignOfLife(1, make.report(seq, findings, totals=totals), make.now_s + seq)


def heard_until(make, *lives):
    heard = Heard(1, make.now_s)
    heard.store(life_of(make, 1, make.finding(count=1)))
    for life in lives:
        heard.hear(life)
    return heard


def waiting(heard):
    pending = heard.pending()
    return [f.count for f in pending.readings], [t.requests for t in pending.totals]


def test_what_arrives_during_a_write_still_waits(make):
    heard = heard_until(make, life_of(make, 2, make.finding(count=2), runs=["x"]))
    pending = heard.pending()
    heard.hear(life_of(make, 3, make.finding(count=3), runs=["x"]))

    heard.settle(pending)

    assert ([3], [3]) == waiting(heard)


def test_a_new_state_is_written_with_all_that_waited(make):
    """And none of it is written again: what is old by then would replace what is new."""
    heard = heard_until(make, life_of(make, 2, make.finding(count=2), runs=["x"]))
    life = life_of(make, 3, make.finding("f2"), runs=["y"])

    assert [2, 3] == [t.requests for t in heard.with_state(life).totals]
    heard.store(life)
    assert not heard.waits
    heard.hear(life_of(make, 4, make.finding("f2")))
    assert ([], []) == waiting(heard)


async def test_a_session_that_has_ended_is_forgotten_once_written(replica, make):
    await replica.take(1)
    await replica.take(2, after_s=7)
    replica.intake.close_session("n1", replica.session)
    await replica.intake.flush()

    assert 7 == (await replica.known())[0]
    assert {} == replica.intake._heard


async def test_the_end_of_an_old_session_does_not_end_the_new(replica):
    old = replica.session
    await replica.open()
    replica.intake.close_session("n1", old)
    await replica.intake.flush()

    assert Stored(0) == await replica.take(1)


async def test_a_session_that_never_reported_is_forgotten_too(replica):
    replica.intake.close_session("n1", replica.session)
    await replica.intake.flush()

    assert {} == replica.intake._heard


async def test_a_failed_write_is_not_acknowledged_and_can_be_sent_again(replica, store, make):
    await replica.take(1)

    @event.listens_for(store._engine.sync_engine, "commit", once=True)
    def fail(_connection):
        raise OSError("power cut")

    with pytest.raises(OSError, match="power cut"):
        await replica.take(2, [make.finding()])
    assert () == (await replica.known())[1]

    assert Stored(0) == await replica.take(2, [make.finding()])
    assert 1 == len((await replica.known())[1])


FINDINGS = st.dictionaries(
    st.sampled_from(["f1", "f2", "f3"]),
    st.tuples(
        st.sampled_from([FindingClass.STORE, FindingClass.TICKET]),
        st.integers(1, 3),
        st.integers(1, 2),
    ),
)
STEPS = st.one_of(
    FINDINGS, FINDINGS, st.sampled_from(["again", "late", "flush", "reconnect", "kill"])
)


async def test_an_old_report_after_a_reconnect_is_not_taken_for_the_state(replica, make):
    """Otherwise the finding that it lists, raised again, would look known."""
    await replica.take(1, [make.finding()])
    await replica.take(2)
    await replica.open()
    assert Stored(0) == await replica.take(1, [make.finding()])

    await replica.take(3, [make.finding()])

    assert 1 == len((await replica.known())[1])


# The fixture only makes values; each example is a database with real commits.
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=12))
def test_the_database_says_what_the_newest_acknowledged_report_said(make, steps):
    """Whatever is sent, sent again, flushed, reconnected or killed in between."""
    with TemporaryDirectory() as folder:
        asyncio.run(follow(f"sqlite+aiosqlite:///{folder}/c.db", make, steps))


async def follow(url, make, steps):
    engine = create_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    store = Store(engine)
    replica = await Replica(store, make, make.now_s).open()
    said = [{}]
    for step in steps:
        match step:
            case "flush":
                await replica.intake.flush()
            case "reconnect":
                await replica.open()
            case "kill":
                replica = await Replica(store, make, replica.now_s).open()
            case "again" | "late" if len(said) > 2:
                seq = len(said) - (1 if step == "again" else 2)
                await replica.take(seq, **findings_of(make, said[seq]))
            case dict():
                await replica.take(len(said), **findings_of(make, step), after_s=1)
                said.append(step)
        heard = {f.finding_id: f.default_class for f in (await replica.known())[1]}
        assert {name: kind for name, (kind, *_) in said[-1].items()} == heard
    await replica.intake.flush()
    if len(said) > 1 and "kill" not in steps and "reconnect" not in steps:
        read = {f.finding_id: (f.count, f.evidence[0].value) for f in (await replica.known())[1]}
        assert {name: (count, value) for name, (_, count, value) in said[-1].items()} == read
    await store.close()


def findings_of(make, step):
    """Return what lists the findings of ``step``, as a report does that they are read from."""
    findings = [
        make.finding(name, default_class=kind, evidence=(Evidence("n", value),))
        for name, (kind, _, value) in step.items()
    ]
    sights = {name: Sight(make.now_s, count) for name, (_, count, _) in step.items()}
    return {"findings": findings, "sights": sights}
