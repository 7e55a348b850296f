"""Sessions over real gRPC on a real socket."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gpuward.coordinator import store_reports
from gpuward.coordinator.ingest import Ingest, IngestServer
from gpuward.coordinator.intake import Intake
from gpuward.coordinator.store import Store
from gpuward.coordinator.store_dialect import create_engine
from gpuward.v1 import coordinator_pb2 as pb
from gpuward.v1 import coordinator_pb2_grpc, finding_pb2, report_pb2


@pytest.fixture
async def channel(store, clock):
    server = IngestServer(Ingest(Intake(store), clock, speed=1.0))
    address = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel
    await server.close()


@pytest.fixture
def session(channel):
    return coordinator_pb2_grpc.CoordinatorServiceStub(channel).Session


def hello(**changes):
    values = {"protocol_revision": 1, "node": "n1", "boot_id": "b", "agent_version": "0.1"}
    return pb.SessionRequest(hello=pb.Hello(**{**values, **changes}))


def report(seq, *, node="n1", events=(), **finding):
    found = [finding_pb2.Finding(**finding)] if finding else []
    return pb.SessionRequest(
        report=report_pb2.Report(
            node=node, seq=seq, agent_instance="a", findings=found, events=events
        )
    )


async def talk(session, *requests):
    """Send ``requests``, say that these were all, and return what came back."""
    call = session()
    for request in requests:
        await call.write(request)
    await call.done_writing()
    return [answer async for answer in call]


async def test_reports_are_acknowledged_in_order_after_commit(session, store):
    events = [report_pb2.SpooledEvent(seq=4, finding=finding_pb2.Finding(finding_id="e"))]

    first, *acks = await talk(
        session, hello(), report(1, finding_id="f", kind="gpu.xid"), report(2, events=events)
    )

    assert (1, 10.0) == (first.hello_ack.protocol_revision, first.hello_ack.report_interval_s)
    assert [(1, 0), (2, 4)] == [(a.report_ack.report_seq, a.report_ack.event_seq) for a in acks]
    assert {"gpu.xid", "unknown"} == {i.kind for i in await store.list_incidents()}


async def test_the_next_report_is_answered_while_the_stream_stays_open(session):
    call = session()
    await call.write(hello())
    assert (await call.read()).HasField("hello_ack")
    for seq in (1, 2, 3):
        await call.write(report(seq))
        assert seq == (await call.read()).report_ack.report_seq
    call.cancel()


@pytest.mark.parametrize(
    ("requests", "code", "reason"),
    [
        pytest.param([report(1)], "INVALID_ARGUMENT", "must be a hello", id="no hello"),
        pytest.param([], "INVALID_ARGUMENT", "must be a hello", id="nothing"),
        pytest.param(
            [hello(protocol_revision=9)],
            "FAILED_PRECONDITION",
            "protocol revision 9, this coordinator 1",
            id="another protocol",
        ),
        pytest.param([hello(node="")], "FAILED_PRECONDITION", "node: not a name", id="nameless"),
        pytest.param(
            [hello(), report(1, node="n2")], "INVALID_ARGUMENT", "a report of 'n2'", id="other node"
        ),
        pytest.param(
            [hello(), hello()], "INVALID_ARGUMENT", "unexpected message", id="hello twice"
        ),
        pytest.param(
            [hello(), pb.SessionRequest()], "INVALID_ARGUMENT", "unexpected message", id="empty"
        ),
    ],
)
async def test_refusals(session, requests, code, reason):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await talk(session, *requests)

    assert code == caught.value.code().name
    assert reason in caught.value.details()


async def test_the_newest_session_of_a_node_wins(session):
    old = session()
    await old.write(hello())
    await old.read()
    assert 2 == len(await talk(session, hello(), report(1)))

    await old.write(report(2))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await old.read()

    assert grpc.StatusCode.ABORTED is caught.value.code()


async def test_a_drain_is_remembered(session, store, clock):
    until = Timestamp(seconds=int(clock.wall_s()) + 600)
    await talk(session, hello(), pb.SessionRequest(drain=pb.Drain(reason="upgrade", until=until)))

    async with store.reading() as connection:
        (life,) = await store_reports.load_lives(connection)
    assert clock.wall_s() + 600 == life.drain_until_s


async def test_a_message_beyond_the_limit_is_refused_and_the_server_lives(session):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await talk(session, hello(), report(1, finding_id="f", summary="x" * (9 << 20)))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
    assert 2 == len(await talk(session, hello(), report(1)))


async def test_without_a_database_nothing_is_acknowledged(tmp_path, clock):
    store = Store(create_engine(f"sqlite+aiosqlite:///{tmp_path}/none/x.db"))
    server = IngestServer(Ingest(Intake(store), clock, speed=1.0))
    address = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel:
        session = coordinator_pb2_grpc.CoordinatorServiceStub(channel).Session
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await talk(session, hello(), report(1))
    await server.close()

    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()


async def test_speed_shortens_the_interval_of_reports(store, clock):
    server = IngestServer(Ingest(Intake(store), clock, speed=60.0))
    address = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel:
        session = coordinator_pb2_grpc.CoordinatorServiceStub(channel).Session
        (answer,) = await talk(session, hello())
    await server.close()

    assert 1.0 == answer.hello_ack.report_interval_s


async def test_many_nodes_at_once(session, store):
    async with asyncio.TaskGroup() as group:
        for n in range(30):
            group.create_task(
                talk(
                    session,
                    hello(node=f"n{n}"),
                    report(1, node=f"n{n}", finding_id=f"f{n}", kind="gpu.xid"),
                )
            )

    assert 30 == len(await store.list_incidents())


async def test_health(channel):
    stub = health_pb2_grpc.HealthStub(channel)

    answer = await stub.Check(
        health_pb2.HealthCheckRequest(service="gpuward.v1.CoordinatorService")
    )

    assert health_pb2.HealthCheckResponse.SERVING == answer.status


async def test_reflection(channel):
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    call.cancel()

    names = {service.name for service in answer.list_services_response.service}
    assert "gpuward.v1.CoordinatorService" in names


async def test_a_port_that_is_taken(store, clock):
    first, second = (IngestServer(Ingest(Intake(store), clock, speed=1.0)) for _ in range(2))
    address = await first.start("127.0.0.1:0")

    with pytest.raises(OSError, match=address.rpartition(":")[2]):
        await second.start(address)
    await first.close()
    await second.close()
