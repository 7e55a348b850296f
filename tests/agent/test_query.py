"""The agent answers over gRPC, from what it knows, without touching the driver."""

from __future__ import annotations

import contextlib

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gpuward.agent.memory_map_answer import Refused, Taken
from gpuward.agent.model import Batch, Driver, Gpu, Result, Sample, SeriesKey
from gpuward.agent.probe_request import Probed
from gpuward.agent.query import Query, QueryServer
from gpuward.agent.watch import Watchers
from gpuward.memory_map import wire
from gpuward.memory_map.model import Block, BlockState, Segment
from gpuward.v1 import agent_pb2, agent_pb2_grpc, finding_pb2

pytestmark = pytest.mark.usefixtures("one_loop")

USED = SeriesKey("gpu_memory_used_bytes", gpu="GPU-1")
# Not of the signals that are kept for an hour.
LIMIT = SeriesKey("gpu_power_limit_watts", gpu="GPU-1")
WALL_AT_START_S = 1_800_000_000


class MemoryMaps:
    """Answers a question for a map as a test says."""

    def __init__(self, clock, outcome):
        self.clock = clock
        self.outcome = outcome
        self.asked = []

    async def ask(self, *question):
        self.asked.append(question)
        return self.outcome


def server_of(judge, memory_maps=None, release=None, probes=None):
    watchers = Watchers(lambda: judge.snapshot, judge.changes, judge._clock)
    query = Query(
        snapshot=lambda: judge.snapshot,
        history=judge.history,
        readings=judge.readings,
        memory_maps=memory_maps,
        release=release,
        probes=probes,
        watchers=watchers,
        components=judge._components,
    )
    return QueryServer(query, watchers)


@contextlib.asynccontextmanager
async def asking(judge, address="127.0.0.1:0", memory_maps=None, release=None, probes=None):
    server = server_of(judge, memory_maps, release, probes)
    bound = await server.start(address)
    async with grpc.aio.insecure_channel(bound) as channel:
        yield channel
    await server.close()


@pytest.fixture
async def judge(make_judge, clock):
    """A node that was sampled for five seconds."""
    judge = make_judge()
    for second in range(5):
        now_s = clock.mono_s()
        samples = (Sample(USED, now_s, float(second)), Sample(LIMIT, now_s, 700.0))
        driver = Driver(up=True, version="580.95.05")
        judge.take("nvml", Batch(samples, gpus=(Gpu("GPU-1", 0, "H100", "1B"),), driver=driver))
        judge.tick()
        await clock.advance(1.0)
    return judge


async def history(stub, key, *, since=None, until=None):
    answer = await stub.GetHistory(
        agent_pb2.GetHistoryRequest(
            series=agent_pb2.SeriesKey(signal=key.signal, gpu_uuid=key.gpu),
            since=since and Timestamp(seconds=WALL_AT_START_S + since),
            until=until and Timestamp(seconds=WALL_AT_START_S + until),
        ),
        timeout=200,
    )
    return [(point.at.seconds - WALL_AT_START_S, point.value) for point in answer.points]


async def test_get_snapshot(judge):
    async with asking(judge) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        answer = await stub.GetSnapshot(agent_pb2.GetSnapshotRequest(), timeout=200)

    snapshot = answer.snapshot
    assert (snapshot.node, snapshot.boot_id, snapshot.driver_up) == ("n1", "boot-1", True)
    assert [gpu.uuid for gpu in snapshot.gpus] == ["GPU-1"]
    assert {value.series.signal: value.value for value in snapshot.values} == {
        "gpu_memory_used_bytes": 4.0,
        "gpu_power_limit_watts": 700.0,
    }
    assert snapshot.at.seconds == WALL_AT_START_S + 4


@pytest.mark.parametrize(
    ("since", "until", "seconds"),
    [
        pytest.param(None, None, [0, 1, 2, 3, 4], id="all"),
        pytest.param(2, None, [2, 3, 4], id="since is in"),
        pytest.param(None, 2, [0, 1], id="until is out"),
        pytest.param(9, None, [], id="nothing"),
    ],
)
@pytest.mark.parametrize("key", [USED, LIMIT], ids=["kept for an hour", "kept for five minutes"])
async def test_get_history(judge, key, since, until, seconds):
    async with asking(judge) as channel:
        points = await history(
            agent_pb2_grpc.AgentServiceStub(channel), key, since=since, until=until
        )

    assert [at for at, _ in points] == seconds


async def test_a_series_that_is_not_there_has_no_history(judge):
    async with asking(judge) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        assert await history(stub, SeriesKey(USED.signal, gpu="GPU-9")) == []


async def test_an_unknown_signal_is_said(judge):
    async with asking(judge) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await history(stub, SeriesKey("gpuward_gpu_memory_used_bytes"))

    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no prefix" in error.value.details()


async def memory_map(judge, clock, outcome):
    maps = MemoryMaps(clock, outcome)
    async with asking(judge, memory_maps=maps) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        request = agent_pb2.GetMemoryMapRequest(process_key="p", gpu_uuid="GPU-1", pid=7)
        answer = await stub.GetMemoryMap(request, timeout=200)
    assert [("p", "GPU-1", 7)] == maps.asked
    return answer


async def test_get_memory_map(judge, clock):
    blocks = (
        Block(0, 512, 500, BlockState.ALLOCATED),
        Block(512, 512, 10, BlockState.PENDING_FREE),
        Block(1024, 1024, 0, BlockState.FREE),
    )
    segments = (
        Segment(
            2**47, 2048, blocks, small_pool=True, expandable=True, stream=2**63, page_bytes=2**21
        ),
        Segment(2**46, 2048, (), private_pool=True),
    )
    answer = await memory_map(judge, clock, Taken(segments, is_truncated=True, pid=77))

    assert segments == wire.segments(answer)
    assert [block.state for block in answer.segments[0].blocks] == [1, 2, 3]
    assert (answer.pid, answer.truncated, answer.refusal) == (77, True, "")
    assert answer.taken_at.seconds == int(clock.wall_s())


async def test_a_refused_memory_map_says_why(judge, clock):
    answer = await memory_map(judge, clock, Refused("busy: ask again in 18 s"))

    assert (answer.refusal, len(answer.segments)) == ("busy: ask again in 18 s", 0)
    assert not answer.HasField("taken_at")


class Probes:
    """Answers every question for a probe alike."""

    async def run(self, probe, gpu):
        figures = {"launch_seconds": 0.5, "stolen_ratio": 0.25, "copy_bytes_per_second": 2e9}
        return Probed(Result.FAIL, figures, f"{probe} {gpu}")


async def test_run_probe(judge):
    async with asking(judge, probes=Probes()) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        request = agent_pb2.RunProbeRequest(probe="latency", gpu_uuid="GPU-1")
        answer = await stub.RunProbe(request, timeout=200)

    assert answer.result == finding_pb2.CHECK_RESULT_FAIL
    assert [(figure.name, figure.value, figure.unit) for figure in answer.figures] == [
        ("copy_bytes_per_second", 2e9, "bytes_per_second"),
        ("launch_seconds", 0.5, "seconds"),
        ("stolen_ratio", 0.25, "ratio"),
    ]
    assert answer.reason == "latency GPU-1"


@pytest.mark.parametrize(
    ("check", "gpu", "result"),
    [
        ("driver.unresponsive", "", finding_pb2.CHECK_RESULT_OK),
        ("driver.unresponsive", "GPU-9", finding_pb2.CHECK_RESULT_UNKNOWN),
        ("gpu.nonsense", "", finding_pb2.CHECK_RESULT_UNKNOWN),
    ],
)
async def test_run_check(judge, check, gpu, result):
    async with asking(judge) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        request = agent_pb2.RunCheckRequest(check=check)
        request.subject.gpu_uuid = gpu
        answer = await stub.RunCheck(request, timeout=200)

    assert answer.result == result
    assert bool(answer.reason) == (result == finding_pb2.CHECK_RESULT_UNKNOWN)


async def test_get_causes(judge, clock):
    """Every replica that anybody has spoken of, also one with which nothing is wrong."""
    requests = SeriesKey("replica_requests_total", service="chat", endpoint="h:8000")
    judge.take("engine", Batch((Sample(requests, clock.mono_s(), 1.0),)))
    judge.tick()
    async with asking(judge) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        answers = [
            await stub.GetCauses(agent_pb2.GetCausesRequest(service=name), timeout=200)
            for name in ("chat", "search")
        ]

    (replica,) = answers[0].replicas
    assert (replica.subject.endpoint, replica.in_trouble) == ("h:8000", False)
    assert not answers[1].replicas


async def test_watch(judge, clock):
    """A snapshot at once, another when findings change, and an orderly end."""
    server = server_of(judge)
    bound = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(bound) as channel:
        call = agent_pb2_grpc.AgentServiceStub(channel).Watch(agent_pb2.WatchRequest(), timeout=200)
        first = await call.read()
        silent = Driver(up=False, waiting_s=90.0, waiting_call="nvmlDeviceGetMemoryInfo")
        judge.take("nvml", Batch(driver=silent))
        judge.tick()
        await clock.advance(1.0)
        second = await call.read()
        await server.close()
        last = await call.read()

    kinds = [[found.kind for found in m.snapshot.findings] for m in (first, second)]
    assert kinds == [[], ["driver.unresponsive"]]
    assert last is grpc.aio.EOF


async def test_the_ninth_who_watches_is_told(judge):
    async with asking(judge) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        calls = [stub.Watch(agent_pb2.WatchRequest(), timeout=200) for _ in range(8)]
        for call in calls:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Watch(agent_pb2.WatchRequest(), timeout=200).read()
        for call in calls:
            call.cancel()

    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health(judge):
    async with asking(judge) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(
            health_pb2.HealthCheckRequest(service="gpuward.v1.AgentService"), timeout=200
        )

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_names_the_service(judge):
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with asking(judge) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([request]), timeout=200)
        answer = await call.read()

    services = {service.name for service in answer.list_services_response.service}
    assert "gpuward.v1.AgentService" in services


async def test_a_unix_socket(judge, tmp_path):
    async with asking(judge, f"unix:{tmp_path}/a.sock") as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        answer = await stub.GetSnapshot(agent_pb2.GetSnapshotRequest(), timeout=200)

    assert answer.snapshot.node == "n1"


async def test_a_taken_port_is_an_error(judge):
    """Two agents must not share a port and half of the questions each."""
    first = server_of(judge)
    bound = await first.start("127.0.0.1:0")
    with pytest.raises(OSError, match="bind"):
        await server_of(judge).start(bound)
    await first.close()
