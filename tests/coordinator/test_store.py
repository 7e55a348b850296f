"""What the store promises: projection equals fold, one open incident a group, stale buttons."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from gpuward.coordinator import events as e
from gpuward.coordinator import incident as fold
from gpuward.coordinator import store_incidents
from gpuward.coordinator.incident import Refused
from gpuward.coordinator.migrate import DatabaseError, upgrade
from gpuward.coordinator.model import CauseDomain, Rotation, Severity
from gpuward.coordinator.store import Applied, Conflict, NotFound, Store
from gpuward.coordinator.store_dialect import create_engine
from gpuward.coordinator.store_schema import metadata
from gpuward.coordinator.ulid import new_ulid


async def open_one(store, event, now_s):
    async with store.writing() as tx:
        return await tx.open(event, (), now_s)


async def test_the_projection_is_the_fold(store, make):
    incident = await open_one(store, make.opened(), make.now_s)
    cause = make.linked(make.finding())
    for at_s, command in enumerate(
        [e.LinkFinding(cause), e.Acknowledge("ann"), e.ClearFinding("f1"), e.Resolve("ann", "ok")]
    ):
        await store.submit(incident.id, command, now_s=make.now_s + at_s)

    record = await store.get_incident(incident.id)

    assert record.incident == fold.fold(incident.id, record.timeline)
    assert [1, 2, 3, 4, 5] == [entry.seq for entry in record.timeline]


async def test_a_group_has_one_open_incident(store, make):
    first = await open_one(store, make.opened(), make.now_s)
    assert await open_one(store, make.opened(), make.now_s + 1) is None

    await store.submit(first.id, e.Resolve("ann"), now_s=make.now_s + 2)

    assert await open_one(store, make.opened(), make.now_s + 3) is not None


async def test_open_incidents_come_first(store, make):
    ids = [
        (await open_one(store, make.opened(group_key=f"g{n}"), make.now_s + n)).id for n in range(4)
    ]
    await store.submit(ids[3], e.Resolve("ann"), now_s=make.now_s + 9)

    listed = await store.list_incidents()

    assert [ids[2], ids[1], ids[0], ids[3]] == [incident.id for incident in listed]


async def test_submit(store, make):
    incident = await open_one(store, make.opened(), make.now_s)
    now_s = make.now_s + 1

    stale = await store.submit(incident.id, e.Acknowledge("a"), now_s=now_s, expected_version=7)
    fresh = await store.submit(incident.id, e.Acknowledge("a"), now_s=now_s, expected_version=1)
    again = await store.submit(incident.id, e.Acknowledge("b"), now_s=now_s)
    await store.submit(incident.id, e.Resolve("a"), now_s=now_s)
    late = await store.submit(incident.id, e.Acknowledge("b"), now_s=now_s)

    assert isinstance(stale, Conflict)
    assert isinstance(fresh, Applied)
    assert "a" == again.incident.acknowledged_by
    assert isinstance(late, Refused)
    assert isinstance(await store.submit("none", e.Resolve("a"), now_s=now_s), NotFound)
    assert await store.get_incident("none") is None


async def test_a_transaction_that_fails_leaves_no_trace(store, make):
    async def fail():
        async with store.writing() as tx:
            await tx.open(make.opened(), (), make.now_s)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()

    assert () == await store.list_incidents()


async def test_a_handover_pages_the_new_rotation_once(store, make):
    """Without a second chain: one step for the rotation that takes over, however often it does."""
    incident = await open_one(store, make.opened(), make.now_s)
    to_ml = e.HandOver(CauseDomain.DRIFT, Rotation.ML, "drift")
    back = e.HandOver(CauseDomain.GPU, Rotation.INFRASTRUCTURE, "no")
    async with store.writing() as tx:
        await tx.connection.execute(
            text("UPDATE escalation_step SET fired_at_s=1 WHERE level='L1'")
        )
        for command in (to_ml, back, to_ml):
            incident = await tx.tell(incident, [command], make.now_s + 1)

    steps = (await store.get_incident(incident.id)).steps

    handovers = sorted(s.level for s in steps if s.level.startswith("handover"))
    assert ["handover-infrastructure", "handover-ml"] == handovers


async def test_a_handover_before_the_first_page_needs_none(store, make):
    incident = await open_one(store, make.opened(), make.now_s)
    command = e.HandOver(CauseDomain.DRIFT, Rotation.ML, "drift")

    await store.submit(incident.id, command, now_s=make.now_s)

    levels = {s.level for s in (await store.get_incident(incident.id)).steps}
    assert {"L1", "L1-repeat", "L2", "L3", "executive"} == levels


async def test_writers_of_two_processes_take_turns(tmp_path, make):
    """Two stores on one file, forty notes each: all are there, in one order."""
    url = f"sqlite+aiosqlite:///{tmp_path}/shared.db"
    engines = [create_engine(url), create_engine(url)]
    await upgrade(engines[0])
    stores = [Store(engine) for engine in engines]
    incident = await open_one(stores[0], make.opened(), make.now_s)

    async def write(store, name):
        for n in range(40):
            await store.submit(incident.id, e.Note(name, str(n)), now_s=make.now_s)

    async with asyncio.TaskGroup() as group:
        for name, store in zip("ab", stores, strict=True):
            group.create_task(write(store, name))

    record = await stores[1].get_incident(incident.id)
    assert list(range(1, 82)) == [entry.seq for entry in record.timeline]
    for store in stores:
        await store.close()


async def test_severity_moves_the_timers_in_the_same_commit(store, make):
    incident = await open_one(store, make.opened(Severity.SEV4), make.now_s)
    assert () == (await store.get_incident(incident.id)).steps

    louder = e.ChangeSeverity(Severity.SEV1, ("all fail",))
    await store.submit(incident.id, louder, now_s=make.now_s + 100)

    first, *_ = (await store.get_incident(incident.id)).steps
    assert ("L1", make.now_s + 100) == (first.level, first.due_at_s)


async def test_migrations_make_the_declared_tables(tmp_path):
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/new.db")
    await upgrade(engine)
    await upgrade(engine)

    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )

    await engine.dispose()
    assert [] == differences


async def test_commits_survive_a_power_cut(store):
    """WAL alone loses the newest commits; synchronous=FULL (2) does not."""
    async with store.reading() as connection:
        mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar()
        level = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar()

    assert ("wal", 2) == (mode, level)


async def test_a_database_from_the_future_is_refused_in_one_line(tmp_path):
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/new.db")
    await upgrade(engine)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num='9999'"))

    with pytest.raises(DatabaseError, match=r"database .*new\.db: .*9999") as caught:
        await upgrade(engine)

    await engine.dispose()
    assert "\n" not in str(caught.value)


async def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "x.db").write_bytes(b"not a database, but long enough to look at" * 30)
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db")

    with pytest.raises(DatabaseError, match=r"x\.db: file is not a database"):
        await upgrade(engine)
    await engine.dispose()


async def test_incidents_survive_the_process(tmp_path, make):
    url = f"sqlite+aiosqlite:///{tmp_path}/kept.db"
    first = create_engine(url)
    await upgrade(first)
    incident = await open_one(Store(first), make.opened(), make.now_s)
    await first.dispose()

    again = Store(create_engine(url))

    assert incident == (await again.get_incident(incident.id)).incident
    await again.close()


async def test_open_incidents_oldest_first(store, make):
    for n in range(3):
        await open_one(store, make.opened(group_key=f"g{n}", title=str(n)), make.now_s + n)

    async with store.reading() as connection:
        found = await store_incidents.load_open(connection)

    assert ["0", "1", "2"] == [incident.title for incident in found]


def test_ids_sort_by_time():
    ids = [new_ulid(1_800_000_000.0 + n) for n in range(50)]

    assert ids == sorted(ids)
    assert 50 == len(set(ids))
    assert {26} == {len(i) for i in ids}
