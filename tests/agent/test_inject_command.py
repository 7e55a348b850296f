"""`gpuward agent inject` against a drill service: what is refused is said in a line."""

from __future__ import annotations

import contextlib

import grpc
import grpc.aio
import pytest

from gpuward.agent.config import AgentConfig
from gpuward.agent.drill_service import DrillService
from gpuward.agent.drills import Drills
from gpuward.agent.model import Batch, Driver, Gpu, Process
from gpuward.daemon.config import parse
from gpuward.v1 import drill_pb2, drill_pb2_grpc

pytestmark = pytest.mark.usefixtures("one_loop")

GPU = Gpu("GPU-1", 3, "H100", "00000000:1B:00.0", serial="165")
CHAT = Process("vllm:llama", 77, 5, gpus=("GPU-1",), engine="vllm", service="chat")


@pytest.fixture
def drills(clock):
    return Drills(clock, instance="i", is_allowed=True)


@pytest.fixture
async def ask(make_judge, drills, tmp_path):
    """Return a function that asks the service of a node with one GPU and one process."""
    judge = make_judge(detectors=())
    judge.take("nvml", Batch(gpus=(GPU,), processes=(CHAT,), driver=Driver(up=True)))
    judge.tick()

    async def asked(method, request):
        server = grpc.aio.server()
        service = DrillService(drills, lambda: judge.snapshot)
        drill_pb2_grpc.add_DrillServiceServicer_to_server(service, server)
        address = f"unix:{tmp_path}/a.sock"
        server.add_insecure_port(address)
        await server.start()
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                stub = drill_pb2_grpc.DrillServiceStub(channel)
                return await getattr(stub, method)(request, timeout=200)
        finally:
            await server.stop(0)

    return asked


def request(**changes):
    return drill_pb2.StartDrillRequest(
        **{"kind": "gpu.xid", "code": 79, "gpu_uuid": "GPU-1", "duration": {"seconds": 60}}
        | changes
    )


async def test_a_drill(ask, drills, clock):
    answer = await ask("StartDrill", request(process_key="vllm:llama", page=True))

    (opened,) = drills.open_findings()
    about = opened.finding.subject
    assert answer.finding_id == opened.finding_id
    assert answer.until.seconds == int(clock.wall_s()) + 60
    assert (about.gpu, about.gpu_serial, about.process) == ("GPU-1", "165", "vllm:llama")
    assert (about.pid, about.engine, about.service) == (77, "vllm", "chat")
    assert (await ask("EndDrills", drill_pb2.EndDrillsRequest())).ended == 1


async def test_a_gpu_by_its_index(ask, drills):
    await ask("StartDrill", request(gpu_uuid="3"))
    assert [opened.finding.subject.gpu for opened in drills.open_findings()] == ["GPU-1"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({"gpu_uuid": "4"}, "no GPU '4' here", id="GPU"),
        pytest.param({"process_key": "x"}, "no process 'x'", id="process"),
        pytest.param({"kind": ""}, "no kind ''", id="kind"),
        pytest.param({"duration": {"seconds": 3_601}}, "up to 3600 s", id="time"),
    ],
)
async def test_refused(ask, drills, changes, complaint):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ask("StartDrill", request(**changes))

    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert complaint in error.value.details()
    assert drills.open_findings() == ()


class Context:
    """A call from ``peer``."""

    def __init__(self, peer):
        self._peer = peer
        self.aborted = None

    def peer(self):
        return self._peer

    async def abort(self, code, _):
        self.aborted = code
        raise ConnectionAbortedError


@pytest.mark.parametrize(
    ("peer", "aborted"),
    [
        pytest.param("unix:", None, id="a socket"),
        pytest.param("ipv4:127.0.0.1:50000", None, id="loopback"),
        pytest.param("ipv6:%5B::1%5D:50000", None, id="loopback, IPv6"),
        pytest.param("ipv4:10.0.0.5:50000", grpc.StatusCode.PERMISSION_DENIED, id="elsewhere"),
        pytest.param("ipv6:%5B2001:db8::1%5D:5", grpc.StatusCode.PERMISSION_DENIED, id="IPv6"),
    ],
)
@pytest.mark.parametrize("method", ["StartDrill", "EndDrills"])
async def test_only_from_this_node(make_judge, drills, peer, aborted, method):
    judge = make_judge(detectors=())
    service = DrillService(drills, lambda: judge.snapshot)
    context = Context(peer)
    asked = request(gpu_uuid="") if method == "StartDrill" else drill_pb2.EndDrillsRequest()

    with contextlib.suppress(ConnectionAbortedError):
        await getattr(service, method)(asked, context)

    assert aborted is context.aborted
    assert len(drills.open_findings()) == (method == "StartDrill" and aborted is None)


def test_drills_are_off_unless_somebody_allows_them():
    assert not parse("", AgentConfig, name="agent.toml").drills.allowed
    assert parse("[drills]\nallowed = true", AgentConfig, name="agent.toml").drills.allowed
