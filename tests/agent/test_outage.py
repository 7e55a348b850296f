"""A day without the coordinator: nothing that was raised is lost, whatever it says afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random

import grpc.aio
import pytest

from gpuward.agent import memory
from gpuward.agent import reporter as reporter_module
from gpuward.agent.detectors import Detector
from gpuward.agent.event_keeper import EventKeeper
from gpuward.agent.heard import Heard
from gpuward.agent.kinds import KINDS
from gpuward.agent.model import Finding, Result, Subject
from gpuward.agent.reporter import Reporter
from gpuward.agent.spool import Spool
from gpuward.agent.spool_file import Item, SpoolFile
from gpuward.v1 import coordinator_pb2, coordinator_pb2_grpc, finding_pb2

pytestmark = pytest.mark.usefixtures("one_loop")

# Raised after 3 s, cleared after 30 s.
KIND = "process.memory.fragmentation"
WALL_S = 1_800_000_000.0


class Coordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Acknowledges as ``event_seq`` says, from the numbers of a report's events."""

    def __init__(self):
        self.reports = []
        self.event_seq = lambda seqs: max(seqs, default=0)
        self.port = 0

    async def Session(self, request_iterator, context):  # noqa: N802 - generated name
        async for request in request_iterator:
            if request.HasField("hello"):
                ack = coordinator_pb2.HelloAck(protocol_revision=1, report_interval_s=1.0)
                yield coordinator_pb2.SessionResponse(hello_ack=ack)
            if request.HasField("report"):
                self.reports.append(request.report)
                seq = self.event_seq([event.seq for event in request.report.events])
                ack = coordinator_pb2.ReportAck(report_seq=request.report.seq, event_seq=seq)
                yield coordinator_pb2.SessionResponse(report_ack=ack)

    @contextlib.asynccontextmanager
    async def serving(self):
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)

    def happened(self):
        """Return the processes of the findings that came as events, each time that they came."""
        return [
            event.finding.subject.process_key for report in self.reports for event in report.events
        ]


class Node:
    """A judge whose one detector sees what ``bad`` names."""

    def __init__(self, make_judge, clock, spool):
        self.bad = set()
        self.clock = clock
        self.spool = spool
        self.judge = make_judge(detectors=(Detector(KINDS[KIND], self._detect),))
        self.judge.heard = Heard()

    def _detect(self, _):
        for process in sorted(self.bad):
            yield Finding(KIND, Subject(process=process), "stranded", result=Result.WARN)

    async def live(self, seconds):
        for _ in range(seconds):
            self.judge.tick()
            await self.clock.advance(1.0)

    @contextlib.asynccontextmanager
    async def reporting(self, port):
        reporter = Reporter(
            f"127.0.0.1:{port}",
            snapshot=lambda: self.judge.snapshot,
            changed=self.judge.changed,
            spool=self.spool,
            was_heard=self.judge.was_heard,
            clock=self.clock,
            instance="abc",
            query_address="",
            interval_s=1.0,
            jitter=random.Random(1),
        )
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(EventKeeper(self.judge, self.spool).run()),
                group.create_task(reporter.run(asyncio.Event())),
            ]
            try:
                yield reporter
            finally:
                for task in tasks:
                    task.cancel()


@pytest.fixture
async def node(make_judge, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(reporter_module, "LEAST_GAP_S", 0.0)
    spool = Spool(tmp_path / "spool.db", wall_s=WALL_S)
    yield Node(make_judge, clock, spool)
    await spool.close()


async def until(clock, condition):
    async with asyncio.timeout(200):
        while not condition():
            await clock.advance(1.0)
            await asyncio.sleep(0.005)


def an_event(process):
    about = finding_pb2.Subject(node="n1", process_key=process)
    return finding_pb2.Finding(finding_id=process, subject=about).SerializeToString()


async def an_outage(node, hours):
    """Let each hour have a trouble of its own that nobody hears of."""
    for hour in range(hours):
        node.bad = {f"p{hour}"}
        await node.live(10)
        node.bad = set()
        await node.live(40)
        await node.clock.advance(3_550.0)


async def test_what_was_raised_and_cleared_in_a_day_alone_is_told(node):
    """Once each, with the times that it had."""
    coordinator = Coordinator()
    async with coordinator.serving():
        pass
    async with node.reporting(coordinator.port):
        began_s = node.clock.wall_s()
        await an_outage(node, 24)
        async with coordinator.serving():
            await until(node.clock, lambda: node.spool.events == 0 and coordinator.happened())

    assert coordinator.happened() == [f"p{hour}" for hour in range(24)]
    events = [event.finding for report in coordinator.reports for event in report.events]
    assert [round((finding.since.seconds - began_s) / 3_600) for finding in events] == [*range(24)]
    assert all(finding.HasField("cleared_at") for finding in events)


async def test_what_was_heard_is_not_told_again(node):
    coordinator = Coordinator()
    async with coordinator.serving(), node.reporting(coordinator.port):
        node.bad = {"p"}
        await node.live(5)
        await until(node.clock, lambda: any(r.findings for r in coordinator.reports))
        await until(node.clock, lambda: coordinator.reports[-1].seq > 3)
        node.bad = set()
        await node.live(40)
        count = len(coordinator.reports)
        await until(node.clock, lambda: len(coordinator.reports) > count + 2)

    assert not coordinator.reports[-1].findings
    assert coordinator.happened() == []


async def test_an_agent_that_is_killed_in_the_outage_tells_it_all_the_same(
    node, make_judge, clock, tmp_path
):
    """Raised unheard, killed, started again, cleared: the coordinator hears of it."""
    async with asyncio.TaskGroup() as group:
        remembering = group.create_task(memory.Memory(node.judge, node.spool).run())
        node.bad = {"p"}
        await node.live(10)
        await until(clock, lambda: not node.judge.unsaved.is_set())
        await node.spool.after(0, 1)
        remembering.cancel()
    # Nothing of the old process is closed.
    spool = Spool(tmp_path / "spool.db", wall_s=WALL_S)
    known = memory.decode(spool.remembered)
    after = Node(make_judge, clock, spool)
    after.judge.state = memory.state_of(
        known, boot_id="boot-1", instance="after", now_s=clock.mono_s()
    )
    after.judge.heard = memory.heard_of(known, "boot-1")
    coordinator = Coordinator()
    async with coordinator.serving():
        pass
    async with after.reporting(coordinator.port):
        await after.live(40)
        async with coordinator.serving():
            await until(clock, coordinator.happened)
            await until(clock, lambda: spool.events == 0)
    await spool.close()

    assert coordinator.happened() == ["p"]


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(lambda _: 2**63, id="everything that will ever be"),
        pytest.param(lambda seqs: max(seqs, default=0) + 1, id="one that was not sent"),
    ],
)
async def test_an_acknowledgement_of_what_was_not_sent_deletes_nothing(node, garbage):
    coordinator = Coordinator()
    coordinator.event_seq = garbage
    async with coordinator.serving(), node.reporting(coordinator.port):
        await node.spool.append([Item(name, an_event(name)) for name in ("p0", "p1")])
        await until(node.clock, lambda: len(coordinator.reports) >= 3)
        kept = node.spool.events
        coordinator.event_seq = lambda seqs: max(seqs, default=0)
        await until(node.clock, lambda: node.spool.events == 0)

    assert kept == 2
    assert set(coordinator.happened()) == {"p0", "p1"}


def test_a_storm_keeps_where_each_trouble_began_and_ended(tmp_path):
    """12,000 events of 300 troubles in room for 10,000: repeats in between are what goes."""
    spool = SpoolFile(tmp_path / "spool.db", wall_s=WALL_S)
    names = [f"{number % 300}|{number}" for number in range(12_000)]
    for first in range(0, 12_000, 100):
        batch = names[first : first + 100]
        spool.append([Item(n, n.encode(), about=n.partition("|")[0]) for n in batch])

    kept = {data.decode() for _, data in spool.after(0, 20_000)}
    spool.close()
    assert (len(kept), spool.dropped) == (10_000, 2_000)
    assert {*names[:300], *names[-300:]} <= kept


def test_what_is_not_important_goes_before_repeats(tmp_path):
    spool = SpoolFile(tmp_path / "spool.db", wall_s=WALL_S, max_rows=4)
    spool.append([Item(name, name.encode(), about="x") for name in ("x1", "x2", "x3")])
    spool.append([Item("note", b"note", important=False), Item("y", b"y", about="y")])
    without_note = [data for _, data in spool.after(0, 10)]
    spool.append([Item("z", b"z", about="z")])

    kept = [data for _, data in spool.after(0, 10)]
    spool.close()
    assert without_note == [b"x1", b"x2", b"x3", b"y"]
    assert kept == [b"x1", b"x3", b"y", b"z"]
