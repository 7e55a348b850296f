"""The session with the coordinator: everything open, nothing lost, no noise."""

from __future__ import annotations

import asyncio
import contextlib
import random

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gpuward.agent import reporter as reporter_module
from gpuward.agent.event_keeper import EventKeeper
from gpuward.agent.model import Batch, Event
from gpuward.agent.reporter import Reporter, backoff_s, first_of
from gpuward.agent.spool import Spool
from gpuward.v1 import coordinator_pb2, coordinator_pb2_grpc

pytestmark = pytest.mark.usefixtures("one_loop")


class FakeCoordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Greets, remembers what it hears, acknowledges as it is told to."""

    def __init__(self):
        self.heard = asyncio.Queue()
        self.interval_s = 10.0
        self.acknowledges = True
        self.drains = False
        self.greets = True
        self.port = 0

    async def Session(self, request_iterator, context):  # noqa: N802 - generated name
        async for request in request_iterator:
            self.heard.put_nowait(request)
            if request.HasField("hello") and self.greets:
                ack = coordinator_pb2.HelloAck(
                    protocol_revision=1, report_interval_s=self.interval_s
                )
                yield coordinator_pb2.SessionResponse(hello_ack=ack)
            if request.HasField("report") and self.acknowledges:
                if self.drains:
                    drain = coordinator_pb2.Drain(reason="upgrade")
                    yield coordinator_pb2.SessionResponse(drain=drain)
                last = max((event.seq for event in request.report.events), default=0)
                ack = coordinator_pb2.ReportAck(report_seq=request.report.seq, event_seq=last)
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

    async def next(self, what):
        async with asyncio.timeout(200):
            request = await self.heard.get()
        assert request.WhichOneof("message") == what
        return getattr(request, what)


@pytest.fixture
def coordinator():
    return FakeCoordinator()


@pytest.fixture
async def spool(tmp_path):
    spool = Spool(tmp_path / "spool.db", wall_s=1_800_000_000.0)
    yield spool
    await spool.close()


@pytest.fixture
def judge(make_judge):
    judge = make_judge()
    judge.tick()
    return judge


@pytest.fixture
def reporting(judge, clock, spool, coordinator, monkeypatch):
    """Run a reporter, and the keeper of its events, for the length of a block."""
    monkeypatch.setattr(reporter_module, "LEAST_GAP_S", 0.0)

    @contextlib.asynccontextmanager
    async def run():
        reporter = Reporter(
            f"127.0.0.1:{coordinator.port}",
            snapshot=lambda: judge.snapshot,
            changed=judge.changed,
            spool=spool,
            was_heard=judge.was_heard,
            clock=clock,
            instance="abc",
            query_address="127.0.0.1:9478",
            interval_s=10.0,
            jitter=random.Random(1),
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(EventKeeper(judge, spool).run())
            task = group.create_task(reporter.run(stop))
            try:
                yield reporter, stop
            finally:
                task.cancel()
                keeping.cancel()

    return run


def happens_once(judge, *identities):
    events = (Event("gpu.xid", 1_000.0, i, code=79, gpu="GPU-1") for i in identities)
    judge.take("kmsg", Batch(events=tuple(events)))


async def until(condition):
    async with asyncio.timeout(200):
        while not condition():  # noqa: ASYNC110 - watches another object's state
            await asyncio.sleep(0.001)


async def pass_time(clock, seconds, condition):
    """Move the clock on in steps, letting real input and output happen between them."""
    for _ in range(int(seconds)):
        await clock.advance(1.0)
        for _ in range(20):
            if condition():
                return
            await asyncio.sleep(0.001)


async def test_it_introduces_itself_and_reports_at_once(coordinator, reporting):
    async with coordinator.serving(), reporting():
        hello = await coordinator.next("hello")
        report = await coordinator.next("report")

    assert (hello.protocol_revision, hello.node, hello.boot_id) == (1, "n1", "boot-1")
    assert (hello.query_address, list(hello.capabilities)) == (
        "127.0.0.1:9478",
        ["history", "memory_map", "probe"],
    )
    assert (report.seq, report.agent_instance) == (1, "abc")


@pytest.mark.parametrize(
    ("asked_s", "interval_s"),
    [
        pytest.param(30.0, 30, id="as the coordinator wants"),
        pytest.param(0.0, 10, id="as configured, if it does not say"),
        pytest.param(0.001, 1, id="never a flood"),
        pytest.param(1e9, 300, id="never silence"),
    ],
)
async def test_interval(coordinator, reporting, clock, asked_s, interval_s):
    coordinator.interval_s = asked_s
    async with coordinator.serving(), reporting() as (reporter, _):
        await until(lambda: reporter.reports_acknowledged == 1)
        await asyncio.sleep(0.01)
        await clock.advance(interval_s - 0.01)
        early = reporter.reports
        await clock.advance(0.01)
        await until(lambda: reporter.reports_acknowledged == 2)

    assert early == 1


async def test_a_raise_is_reported_at_once(coordinator, reporting, judge):
    """And the event behind it, which is then deleted here."""
    async with coordinator.serving(), reporting() as (reporter, _):
        await until(lambda: reporter.reports_acknowledged == 1)
        happens_once(judge, "a")
        judge.tick()
        await coordinator.next("hello")
        await coordinator.next("report")
        findings, events = [], []
        while not (findings and events):
            report = await coordinator.next("report")
            findings = findings or list(report.findings)
            events += report.events
        await until(lambda: reporter._spool.events == 0)

    assert findings[0].kind == events[0].finding.kind == "gpu.xid"
    assert findings[0].dedup_key == events[0].finding.dedup_key


async def test_findings_are_reported_though_the_spool_cannot_be_read(
    coordinator, reporting, judge, spool
):
    """A broken disk must not hide a broken GPU."""
    happens_once(judge, "a")
    judge.tick()
    spool._file._database.close()
    with capture_logs() as logs:
        async with coordinator.serving(), reporting():
            await coordinator.next("hello")
            report = await coordinator.next("report")
    spool._file._database = None

    assert [finding.kind for finding in report.findings] == ["gpu.xid"]
    assert "spool.unreadable" in [log["event"] for log in logs]


async def test_a_storm_is_a_few_reports(coordinator, reporting, judge, clock, monkeypatch):
    """News within a fifth of a second of a report waits for the next."""
    monkeypatch.setattr(reporter_module, "LEAST_GAP_S", 0.2)
    async with coordinator.serving(), reporting() as (reporter, _):
        await until(lambda: reporter.reports_acknowledged == 1)
        await asyncio.sleep(0.01)
        for _ in range(10):
            judge.changed.set()
            await clock.advance(0.015)
            await asyncio.sleep(0.001)
        early = reporter.reports
        await clock.advance(0.06)
        await until(lambda: reporter.reports_acknowledged == 2)

    assert early == 1


async def test_events_wait_for_a_coordinator_that_is_away(coordinator, reporting, judge, clock):
    """Down, up, down in mid-report, up again: each event arrives, and goes when it is durable."""
    coordinator.acknowledges = False
    async with reporting() as (reporter, _):
        happens_once(judge, "a", "b")
        async with coordinator.serving():
            reporter._address = f"127.0.0.1:{coordinator.port}"
            await pass_time(clock, 90, lambda: not coordinator.heard.empty())
            await coordinator.next("hello")
            first = await coordinator.next("report")
        coordinator.acknowledges = True
        await until(lambda: not reporter.connected)
        async with coordinator.serving():
            await pass_time(clock, 90, lambda: reporter.connected)
            await coordinator.next("hello")
            second = await coordinator.next("report")
            await until(lambda: reporter._spool.events == 0)

    assert [event.seq for event in first.events] == [event.seq for event in second.events]
    assert len(second.events) == 2


async def test_a_coordinator_that_is_away_is_said_once(coordinator, reporting, clock):
    """One line when it goes, one when it is back, however often it was tried."""
    with capture_logs() as logs:
        async with reporting() as (reporter, _):
            reporter._address = "127.0.0.1:1"
            await pass_time(clock, 200, lambda: False)
            async with coordinator.serving():
                reporter._address = f"127.0.0.1:{coordinator.port}"
                await pass_time(clock, 90, lambda: reporter.reports_acknowledged > 0)

    said = [log["event"] for log in logs if log["event"].startswith("coordinator.")]
    assert said == ["coordinator.unreachable", "coordinator.connected"]


async def test_a_coordinator_that_never_answers_is_left(coordinator, reporting, clock, monkeypatch):
    monkeypatch.setattr(reporter_module, "ANSWER_WITHIN_S", 0.05)
    coordinator.greets = False
    with capture_logs() as logs:
        async with coordinator.serving(), reporting():
            await coordinator.next("hello")
            await until(lambda: logs)

    assert [(log["event"], log["reason"]) for log in logs] == [
        ("coordinator.unreachable", "no answer within 0 s")
    ]


async def test_a_drain_is_obeyed(coordinator, reporting, clock):
    """The report is finished, then it comes back: to whoever answers next."""
    coordinator.drains = True
    async with coordinator.serving(), reporting() as (reporter, _):
        await until(lambda: reporter.reports_acknowledged == 1)
        coordinator.drains = False
        await pass_time(clock, 5, lambda: reporter.reports_acknowledged == 2)
        heard = [coordinator.heard.get_nowait().WhichOneof("message") for _ in range(4)]

    assert heard == ["hello", "report", "hello", "report"]


async def test_it_says_goodbye(coordinator, reporting):
    """A planned stop: a last report, and until when the node is not missed."""
    async with coordinator.serving(), reporting() as (reporter, stop):
        await until(lambda: reporter.reports_acknowledged == 1)
        stop.set()
        await coordinator.next("hello")
        await coordinator.next("report")
        await coordinator.next("report")
        drain = await coordinator.next("drain")

    assert drain.reason == "shutdown"
    assert drain.until.seconds == 1_800_000_300


async def test_more_events_than_a_report_holds_follow_at_once(
    coordinator, reporting, judge, monkeypatch
):
    monkeypatch.setattr(reporter_module, "MAX_EVENTS", 3)
    async with coordinator.serving(), reporting() as (reporter, _):
        happens_once(judge, *"abcdefg")
        received = []
        await coordinator.next("hello")
        while len(received) < 7:
            received += (await coordinator.next("report")).events
        await until(lambda: reporter._spool.events == 0)

    assert [event.seq for event in received] == sorted({event.seq for event in received})


async def test_a_wrong_acknowledgement_deletes_nothing(coordinator, reporting, judge, spool):
    class Confused(FakeCoordinator):
        async def Session(self, request_iterator, context):  # noqa: N802 - generated name
            async for request in request_iterator:
                if request.HasField("hello"):
                    yield coordinator_pb2.SessionResponse(hello_ack=coordinator_pb2.HelloAck())
                else:
                    ack = coordinator_pb2.ReportAck(report_seq=99, event_seq=2**60)
                    yield coordinator_pb2.SessionResponse(report_ack=ack)

    happens_once(judge, "a")
    confused = Confused()
    async with confused.serving():
        coordinator.port = confused.port
        with capture_logs() as logs:
            async with reporting():
                await until(lambda: len(logs) > 1)

    assert "another report" in logs[1]["reason"]
    assert spool.events == 1


@given(st.integers(0, 10_000), st.randoms())
def test_backoff(failures, jitter):
    """From 1 s, doubled, to 60 s, half of it random; never a storm, never much longer."""
    longest_s = min(60.0, 2.0 ** (max(failures, 1) - 1)) if failures < 50 else 60.0

    assert longest_s / 2 <= backoff_s(failures, jitter) <= longest_s


async def test_first_of(clock):
    news, silence = asyncio.Event(), asyncio.Event()
    woken = []

    async def wait(until_s, *events):
        await first_of(clock, until_s, *events)
        woken.append((until_s, clock.mono_s()))

    async with asyncio.TaskGroup() as group:
        group.create_task(wait(1_005.0, silence))
        group.create_task(wait(1_090.0, silence, news))
        await clock.advance(7.0)
        news.set()

    assert woken == [(1_005.0, 1_005.0), (1_090.0, 1_007.0)]
