"""Which maps are fetched, when, how often, and that a coordinator which dies asks again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator import store_maps, store_reports
from gpuward.coordinator.agents import Later, Refused, Taken
from gpuward.coordinator.map_request import MappedProcess, concerned, wanted
from gpuward.coordinator.memory_maps import MemoryMaps, plan_maps
from gpuward.coordinator.model import Subject
from gpuward.memory_map.model import Block, BlockState, MemoryMap, Segment

MIB = 2**20
ADDRESS = "unix:/run/gpuward/agent.sock"
SUBJECT = Subject("n1", "GPU-1", process_key="vllm", pid=77, service="chat")
PROCESS = MappedProcess("n1", "GPU-1", "vllm", 77)


def memory_map(live=1, *, pid=77, at_s=1_800_000_000.0):
    blocks = (
        Block(0, live * MIB, live * MIB - 512, BlockState.ALLOCATED),
        Block(live * MIB, (20 - live) * MIB, 0, BlockState.FREE),
    )
    segment = Segment(2**40, 20 * MIB, blocks, stream=2**64 - 1)
    return MemoryMap("vllm", pid, "GPU-1", at_s, (segment,))


class Agent:
    """Answers what a test says, in order, then always a map; remembers who was asked."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.asked = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(self, address, process, now_s):
        self.asked.append((address, process.pid))
        await self.may_answer.wait()
        return self.outcomes.pop(0) if self.outcomes else Taken(memory_map(pid=process.pid))


async def fetch(maps):
    """Ask what is due, and wait for the answers."""
    async with asyncio.TaskGroup() as group:
        return await maps.start_due(group)


@pytest.fixture
def trouble(store, make, clock):
    """Open an incident with findings about processes."""

    async def open_incident(*pids, service="chat", **changes):
        findings = [
            make.finding(f"{service}-{pid}", subject=replace(SUBJECT, pid=pid), **changes)
            for pid in pids or (77,)
        ]
        links = [e.LinkFinding(make.linked(finding)) for finding in findings]
        opened = make.opened(group_key=f"service|{service}", service=service)
        async with store.writing() as tx:
            hello = {"boot_id": "b", "agent_version": "1", "query_address": ADDRESS}
            await store_reports.open_session(tx.connection, "n1", clock.wall_s(), **hello)
            await store_reports.write_findings(tx.connection, findings)
            return await tx.open(opened, links, clock.wall_s())

    return open_incident


async def requests(store, incident):
    async with store.reading() as connection:
        return await store_maps.load(connection, incident.id)


async def timeline(store, incident):
    return (await store.get_incident(incident.id)).timeline


async def ask_again(store, incident, clock, process=PROCESS):
    async with store.writing() as tx:
        return await store_maps.ask_again(tx.connection, incident.id, process.id, clock.wall_s())


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        pytest.param("process.memory.fragmentation", {}, [PROCESS], id="open"),
        pytest.param("process.memory.leak_suspected", {}, [PROCESS], id="any memory trouble"),
        pytest.param("process.memory.blind", {}, [], id="blind: nobody to ask"),
        pytest.param("gpu.memory.saturation", {}, [], id="of the GPU, not of a process"),
        pytest.param("process.memory.oom", {"cleared_at_s": 0.0}, [PROCESS], id="just over"),
        pytest.param(
            "process.memory.oom",
            {"cleared_at_s": 0.0, "last_seen_s": 1_800_000_000.0 - 61},
            [],
            id="long over",
        ),
        pytest.param(
            "process.memory.oom", {"subject": replace(SUBJECT, gpu_uuid="")}, [], id="no GPU known"
        ),
        pytest.param(
            "process.memory.oom", {"subject": replace(SUBJECT, process_key="")}, [], id="no process"
        ),
    ],
)
def test_wanted(make, kind, changes, expected):
    """A map of each process with a memory finding that, as far as one knows, still lives."""
    finding = make.finding(**{"kind": kind, "subject": SUBJECT, **changes})
    incident = replace(make.incident(), findings=(make.linked(finding),))

    assert expected == list(wanted(incident, [finding], set(), make.now_s))


def test_wanted_is_each_process_once_and_not_too_many(make):
    findings = [
        make.finding(f"f{number}", subject=replace(SUBJECT, pid=number // 2 + 1))
        for number in range(30)
    ]
    incident = replace(make.incident(), findings=tuple(map(make.linked, findings)))

    everybody = concerned(incident, findings)
    asked = {process.id for process in everybody[:5]}

    assert list(range(1, 16)) == [p.pid for p in everybody]
    assert list(range(1, 9)) == [p.pid for p in wanted(incident, findings, set(), make.now_s)]
    assert [6, 7, 8] == [p.pid for p in wanted(incident, findings, asked, make.now_s)]
    asked = {process.id for process in everybody[:9]}
    assert () == wanted(incident, findings, asked, make.now_s)


def test_findings_of_other_incidents_do_not_count(make):
    other = make.finding("other", subject=SUBJECT)

    assert () == wanted(make.incident(), [other], set(), make.now_s)


def test_a_name_of_a_process_is_short_and_its_own():
    """Whatever nodes, GPUs and processes call themselves."""
    names = {
        MappedProcess("n" * 256, "GPU" * 85, "k" * 256, 2**32 - 1).id,
        MappedProcess("a", "b", "c", 1).id,
        MappedProcess("ab", "", "c", 1).id,
        MappedProcess("a", "b", "c1", 1).id,
        MappedProcess("a", "b", "c", 11).id,
    }

    assert 5 == len(names)
    assert {32} == {len(name) for name in names}


async def test_a_map_is_taken_once_and_kept(store, clock, trouble):
    """With what it adds up to in the timeline, so that a review can name it."""
    incident, agent = await trouble(), Agent()
    maps = MemoryMaps(store, agent.ask, clock)
    for _ in range(3):
        await plan_maps(store, clock.wall_s())
        await fetch(maps)
        await clock.advance(60)

    assert [(ADDRESS, 77)] == agent.asked
    (request,) = await requests(store, incident)
    assert memory_map() == store_maps.unpacked(request.body)
    assert (PROCESS, False, False, "") == (
        request.process,
        request.on_request,
        request.is_waiting,
        request.refusal,
    )
    *_, last = await timeline(store, incident)
    assert last.event == e.MemoryMapTaken(
        process="vllm",
        pid=77,
        gpu_uuid="GPU-1",
        taken_at_s=1_800_000_000.0,
        reserved_bytes=20 * MIB,
        active_bytes=MIB,
        stranded_bytes=19 * MIB,
        releasable_bytes=0,
        largest_free_bytes=19 * MIB,
    )


async def test_what_comes_later_is_asked_too(store, clock, trouble, make):
    """A process that is started again is another one."""
    incident, agent = await trouble(), Agent()
    maps = MemoryMaps(store, agent.ask, clock)
    await plan_maps(store, clock.wall_s())
    await fetch(maps)
    finding = make.finding("restarted", subject=replace(SUBJECT, pid=78))
    async with store.writing() as tx:
        await store_reports.write_findings(tx.connection, [finding])
        incident = (await store.get_incident(incident.id)).incident
        await tx.tell(incident, [e.LinkFinding(make.linked(finding))], clock.wall_s())

    await plan_maps(store, clock.wall_s())
    await fetch(maps)

    assert [77, 78] == [pid for _, pid in agent.asked]


async def test_two_incidents_share_one_question(store, clock, trouble):
    """A walk stops the process: nobody asks it twice for the same."""
    first, second = await trouble(service="chat"), await trouble(service="search")
    agent = Agent()
    await plan_maps(store, clock.wall_s())
    await fetch(MemoryMaps(store, agent.ask, clock))
    await clock.advance(29)
    third = await trouble(service="code")
    await plan_maps(store, clock.wall_s())

    assert 1 == len(agent.asked)
    for incident in (first, second, third):
        (request,) = await requests(store, incident)
        assert request.body is not None
        assert isinstance((await timeline(store, incident))[-1].event, e.MemoryMapTaken)


async def test_an_older_map_is_not_passed_on(store, clock, trouble):
    await trouble(service="chat")
    agent = Agent()
    maps = MemoryMaps(store, agent.ask, clock)
    await plan_maps(store, clock.wall_s())
    await fetch(maps)
    await clock.advance(30)
    await trouble(service="code")
    await plan_maps(store, clock.wall_s())

    assert 1 == await fetch(maps)
    assert 2 == len(agent.asked)


async def test_few_at_once_and_each_process_once(store, clock, trouble):
    await trouble(1, 2, 3, 4, 5, 6)
    agent = Agent()
    agent.may_answer.clear()
    maps, other = MemoryMaps(store, agent.ask, clock), MemoryMaps(store, agent.ask, clock)
    await plan_maps(store, clock.wall_s())
    async with asyncio.TaskGroup() as group:
        assert 4 == await maps.start_due(group)
        assert 0 == await maps.start_due(group)
        # Another replica takes what is left, and nothing of what is under way.
        assert 2 == await other.start_due(group)
        assert 0 == await other.start_due(group)
        agent.may_answer.set()

    assert [1, 2, 3, 4, 5, 6] == sorted(pid for _, pid in agent.asked)


async def test_a_coordinator_that_dies_asks_again(store, clock, trouble):
    incident, agent = await trouble(), Agent()
    await plan_maps(store, clock.wall_s())
    async with store.writing() as tx:
        assert 1 == len(await store_maps.lease(tx.connection, clock.wall_s(), 4))
    maps = MemoryMaps(store, agent.ask, clock)
    assert 0 == await fetch(maps)

    await clock.advance(15)
    assert 1 == await fetch(maps)

    assert (await requests(store, incident))[0].body is not None


async def test_the_one_process_on_sqlite_asks_again_at_once(store, clock, trouble):
    await trouble()
    await plan_maps(store, clock.wall_s())
    async with store.writing() as tx:
        await store_maps.lease(tx.connection, clock.wall_s(), 4)

    await store.take_over()

    assert 1 == await fetch(MemoryMaps(store, Agent().ask, clock))


@pytest.mark.parametrize(
    ("outcome", "waits_s"),
    [
        pytest.param(Later("busy: ask again in 18 s", 18.0), 18.0, id="as the agent says"),
        pytest.param(Later("cannot be reached"), 10.0, id="own pause"),
    ],
)
async def test_later(store, clock, trouble, outcome, waits_s):
    """The reason is kept, and the process is asked again."""
    incident, agent = await trouble(), Agent(outcome)
    maps = MemoryMaps(store, agent.ask, clock)
    await plan_maps(store, clock.wall_s())
    await fetch(maps)

    (request,) = await requests(store, incident)
    assert (outcome.reason, True) == (request.refusal, request.is_waiting)
    await clock.advance(waits_s - 0.1)
    assert 0 == await fetch(maps)
    await clock.advance(0.1)
    assert 1 == await fetch(maps)
    (request,) = await requests(store, incident)
    assert ("", False) == (request.refusal, request.is_waiting)


async def test_not_for_ever(store, clock, trouble):
    incident, agent = await trouble(), Agent(*[Later("cannot be reached")] * 20)
    maps, waits = MemoryMaps(store, agent.ask, clock), []
    await plan_maps(store, clock.wall_s())
    while await fetch(maps):
        (request,) = await requests(store, incident)
        waits.append((request.due_at_s or clock.wall_s()) - clock.wall_s())
        await clock.advance(waits[-1])

    assert [10, 20, 40, 80, 160, 300, 300, 300, 300, 0] == waits
    assert ("cannot be reached", False) == (request.refusal, request.is_waiting)


async def test_refused(store, clock, trouble):
    incident, agent = await trouble(), Agent(Refused("no tap: nobody"))
    maps = MemoryMaps(store, agent.ask, clock)
    await plan_maps(store, clock.wall_s())
    await fetch(maps)
    await clock.advance(600)
    await plan_maps(store, clock.wall_s())

    assert 0 == await fetch(maps)
    (request,) = await requests(store, incident)
    assert ("no tap: nobody", None) == (request.refusal, request.body)


async def test_a_database_that_fails_stops_nothing(store, clock, trouble):
    """The coordinator goes on, and the process is asked again when the lease has run out."""
    incident, agent = await trouble(), Agent()
    await plan_maps(store, clock.wall_s())

    async def meanwhile(address, process, now_s):
        async with store.writing() as tx:
            await tx.connection.exec_driver_sql("ALTER TABLE memory_map RENAME TO away")
        return Taken(memory_map())

    assert 1 == await fetch(MemoryMaps(store, meanwhile, clock))
    async with store.writing() as tx:
        await tx.connection.exec_driver_sql("ALTER TABLE away RENAME TO memory_map")
    await clock.advance(15)

    assert 1 == await fetch(MemoryMaps(store, agent.ask, clock))
    assert (await requests(store, incident))[0].body is not None


async def test_nobody_is_asked_for_what_is_over(store, clock, trouble):
    incident, agent = await trouble(), Agent(Later("busy: ask again in 18 s", 18.0))
    maps = MemoryMaps(store, agent.ask, clock)
    await plan_maps(store, clock.wall_s())
    await fetch(maps)
    await store.submit(incident.id, e.Resolve("ann"), now_s=clock.wall_s())
    await clock.advance(60)
    await plan_maps(store, clock.wall_s())

    assert 0 == await fetch(maps)
    # Nor does it get the map that a later incident asks for.
    later = await trouble(service="search")
    await plan_maps(store, clock.wall_s())
    assert 1 == await fetch(maps)
    assert [None] == [request.body for request in await requests(store, incident)]
    assert (await requests(store, later))[0].body is not None


async def test_a_person_asks_again(store, clock, trouble):
    """The first map stays beside the fresh one; of the fresh ones the last."""
    incident = await trouble()
    agent = Agent(*(Taken(memory_map(live)) for live in (1, 2, 3)))
    maps = MemoryMaps(store, agent.ask, clock)
    await plan_maps(store, clock.wall_s())
    await fetch(maps)
    for _ in range(2):
        await clock.advance(30)
        assert store_maps.Asked() == await ask_again(store, incident, clock)
        # Twice is once.
        assert store_maps.Asked() == await ask_again(store, incident, clock)
        assert 1 == await fetch(maps)

    first, fresh = await requests(store, incident)
    assert (False, True) == (first.on_request, fresh.on_request)
    assert memory_map(1) == store_maps.unpacked(first.body)
    assert memory_map(3) == store_maps.unpacked(fresh.body)
    taken = [t.event for t in await timeline(store, incident)][-3:]
    assert [False, True, True] == [event.on_request for event in taken]


async def test_a_person_asks_too_soon(store, clock, trouble):
    incident, agent = await trouble(), Agent()
    await plan_maps(store, clock.wall_s())
    await fetch(MemoryMaps(store, agent.ask, clock))
    await clock.advance(12)

    assert store_maps.TooSoon(18.0) == await ask_again(store, incident, clock)


async def test_a_person_asks_for_what_is_not_there(store, clock, trouble):
    incident = await trouble()
    await plan_maps(store, clock.wall_s())
    nobody = MappedProcess("n1", "GPU-1", "vllm", 99)

    assert store_maps.Unknown() == await ask_again(store, incident, clock, nobody)
    await store.submit(incident.id, e.Resolve("ann"), now_s=clock.wall_s())
    assert store_maps.Unknown() == await ask_again(store, incident, clock)


async def test_a_fresh_map_that_is_refused_leaves_the_old_one(store, clock, trouble):
    incident = await trouble()
    agent = Agent(Taken(memory_map()), Refused("degraded: never"))
    maps = MemoryMaps(store, agent.ask, clock)
    await plan_maps(store, clock.wall_s())
    await fetch(maps)
    await clock.advance(30)
    await ask_again(store, incident, clock)
    await fetch(maps)

    first, fresh = await requests(store, incident)
    assert memory_map() == store_maps.unpacked(first.body)
    assert (None, "degraded: never", False) == (fresh.body, fresh.refusal, fresh.is_waiting)


def test_a_kept_map_is_small():
    """A page of 10,000 blocks is some tens of kilobytes, not megabytes."""
    blocks, offset = [], 0
    for number in range(10_000):
        size = 512 * (1 + number * 7919 % 5000)
        state = BlockState.FREE if number % 3 else BlockState.ALLOCATED
        blocks.append(Block(offset, size, 0 if number % 3 else size - number % 512, state))
        offset += size
    large = replace(memory_map(), segments=(Segment(2**40, offset, tuple(blocks)),))

    assert large == store_maps.unpacked(store_maps.packed(large))
    assert len(store_maps.packed(large)) < 150_000
