"""Asking an agent: bounded in time and size, and nothing that it says is believed unseen."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.coordinator import agents
from gpuward.coordinator.agents import Later, Refused, Taken, ask_memory_map, read_answer, target_of
from gpuward.coordinator.map_request import MappedProcess
from gpuward.memory_map import svg
from gpuward.memory_map.model import totals
from gpuward.memory_map.plausible import is_plausible
from gpuward.v1 import agent_pb2, agent_pb2_grpc

NOW_S = 1_800_000_000.0
MIB = 2**20
AT = 0x7F0000000000
HUGE = 2**64 - 1
PROCESS = MappedProcess("n1", "GPU-1", "vllm:llama", 77)
LIVE, FREE = agent_pb2.BLOCK_STATE_ALLOCATED, agent_pb2.BLOCK_STATE_FREE


def block(offset, size, requested=0, state=FREE):
    return agent_pb2.MemoryBlock(
        offset_bytes=offset, size_bytes=size, requested_bytes=requested, state=state
    )


def segment(*blocks, at=AT, size=4 * MIB):
    return agent_pb2.MemorySegment(address=at, size_bytes=size, blocks=blocks)


def answer(*segments, pid=77, **facts):
    facts.setdefault("taken_at", {"seconds": int(NOW_S) - 2})
    return agent_pb2.GetMemoryMapResponse(segments=segments, pid=pid, **facts)


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:9478", "dns:127.0.0.1:9478"),
        ("[::1]:9478", "dns:[::1]:9478"),
        ("gpu-node-7.example.net:9478", "dns:gpu-node-7.example.net:9478"),
        # A host of that name, not a socket.
        ("unix:9478", "dns:unix:9478"),
        ("unix:/run/gpuward/agent.sock", "unix:/run/gpuward/agent.sock"),
        ("unix:///run/gpuward/agent.sock", "unix:/run/gpuward/agent.sock"),
        ("", None),
        ("unix:relative", None),
        ("unix:/" + 200 * "a", None),
        ("xds:///service", None),
        ("dns://8.8.8.8/name:1", None),
        ("host", None),
        ("host:1234567", None),
        ("ho st:1", None),
        ("host:1\n", None),
    ],
)
def test_what_is_connected_to(address, target):
    """Sockets and host:port; none of the other ways in which gRPC finds a server."""
    assert target == target_of(address)


def test_a_map():
    found = read_answer(
        answer(segment(block(0, MIB, MIB, LIVE), block(MIB, 3 * MIB)), truncated=True),
        PROCESS,
        NOW_S,
    )

    assert isinstance(found, Taken)
    memory_map = found.memory_map
    assert ("vllm:llama", 77, "GPU-1") == (memory_map.process, memory_map.pid, memory_map.gpu)
    assert (NOW_S - 2, True) == (memory_map.taken_at_s, memory_map.is_truncated)
    sums = totals(memory_map.segments)
    assert (4 * MIB, MIB, 3 * MIB) == (sums.reserved, sums.allocated, sums.stranded)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(answer(segment(size=0)), id="a segment without size"),
        pytest.param(answer(segment(at=HUGE)), id="an address that is negative elsewhere"),
        pytest.param(answer(segment(size=HUGE)), id="a segment without end"),
        pytest.param(answer(segment(), segment(at=AT + MIB)), id="segments over one another"),
        pytest.param(answer(segment(block(HUGE, MIB))), id="a negative offset"),
        pytest.param(answer(segment(block(2 * MIB, 3 * MIB))), id="a block beyond its segment"),
        pytest.param(answer(segment(block(0, 0))), id="a block without size"),
        pytest.param(answer(segment(block(0, HUGE))), id="a block without end"),
        pytest.param(
            answer(segment(block(0, 2 * MIB), block(MIB, MIB))), id="blocks over one another"
        ),
        pytest.param(answer(segment(block(0, MIB, HUGE, LIVE))), id="more asked for than there is"),
    ],
)
def test_what_no_allocator_can_be_is_no_map(lie):
    assert Refused("unusable: no allocator can be as the agent answered") == read_answer(
        lie, PROCESS, NOW_S
    )


def test_the_map_of_another_process_is_none():
    found = read_answer(answer(segment(), pid=78), PROCESS, NOW_S)

    assert Refused("unusable: the agent answered for another process") == found


def test_whoever_holds_most_may_be_anybody():
    process = MappedProcess("n1", "GPU-1", "vllm:llama", 0)

    assert 78 == read_answer(answer(segment(), pid=78), process, NOW_S).memory_map.pid


@pytest.mark.parametrize("seconds", [0, int(NOW_S) - 400, int(NOW_S) + 400, 2**62])
def test_a_map_of_another_time_is_of_now(seconds):
    found = read_answer(answer(segment(), taken_at={"seconds": seconds}), PROCESS, NOW_S)

    assert found.memory_map.taken_at_s == NOW_S


@pytest.mark.parametrize(
    ("segments", "blocks"), [(1, 20_001), (20_002, 0), (150, 200)], ids=["one", "bare", "many"]
)
def test_more_than_is_read_is_cut_and_said(segments, blocks):
    """However many an agent sends: what is kept and drawn is bounded."""
    size = max(MIB, blocks * 512)
    pieces = [block(number * 512, 512, 512, LIVE) for number in range(blocks)]
    found = read_answer(
        answer(*(segment(*pieces, at=AT + place * size, size=size) for place in range(segments))),
        PROCESS,
        NOW_S,
    )

    kept = found.memory_map.segments
    assert found.memory_map.is_truncated
    assert 19_000 < len(kept) + sum(len(s.blocks) for s in kept) <= 20_001
    assert [s.address for s in kept] == [AT + place * size for place in range(len(kept))]


def test_what_fits_is_whole():
    pieces = [block(number * 512, 512, 512, LIVE) for number in range(19_999)]
    found = read_answer(answer(segment(*pieces, size=20_000 * 512)), PROCESS, NOW_S)

    assert not found.memory_map.is_truncated
    assert len(found.memory_map.segments[0].blocks) == 19_999


@pytest.mark.parametrize(
    ("refusal", "outcome"),
    [
        pytest.param(
            "busy: this process was asked a moment ago; ask again in 18 s",
            Later("busy: this process was asked a moment ago; ask again in 18 s", 18.0),
            id="when to ask again",
        ),
        pytest.param("busy: ask again in 0 s", Later("busy: ask again in 0 s", 1.0), id="at once"),
        pytest.param(
            "busy: ask again in 9999 s", Later("busy: ask again in 9999 s", 600.0), id="for ever"
        ),
        pytest.param(
            "busy: ask again in 99999999 s", Later("busy: ask again in 99999999 s"), id="absurd"
        ),
        pytest.param("busy: another question", Later("busy: another question"), id="busy"),
        pytest.param("timeout: no answer", Later("timeout: no answer"), id="idle"),
        pytest.param("no tap: nobody", Refused("no tap: nobody"), id="no tap"),
        pytest.param("a\x1b[2J\nb", Refused("a [2J b"), id="commands for a terminal"),
        pytest.param(1000 * "a", Refused(300 * "a"), id="a flood of words"),
    ],
)
def test_refusals(refusal, outcome):
    assert outcome == read_answer(answer(refusal=refusal), PROCESS, NOW_S)


NUMBERS = st.one_of(st.integers(0, 5 * MIB), st.integers(0, HUGE))
ANSWERS = st.builds(
    answer,
    st.builds(
        segment,
        st.builds(block, NUMBERS, NUMBERS, NUMBERS, st.sampled_from([LIVE, FREE, 0])),
        at=st.one_of(st.just(AT), NUMBERS),
        size=st.one_of(st.just(4 * MIB), NUMBERS),
    ),
    pid=st.one_of(st.just(77), st.integers(0, 2**32 - 1)),
    refusal=st.one_of(st.just(""), st.text(max_size=40)),
)


@given(ANSWERS)
def test_any_answer_is_a_map_that_can_be_drawn_or_a_reason(given_answer):
    found = read_answer(given_answer, PROCESS, NOW_S)

    if isinstance(found, Taken):
        assert is_plausible(found.memory_map.segments)
        assert svg.render(found.memory_map).startswith("<svg ")
    else:
        assert found.reason.isprintable()
        assert 0 < len(found.reason) <= 300


class Agent(agent_pb2_grpc.AgentServiceServicer):
    """Answers with what ``reply`` makes of the request."""

    def __init__(self, reply):
        self.reply = reply
        self.asked = []

    async def GetMemoryMap(self, request, context):  # noqa: N802
        self.asked.append((request.process_key, request.gpu_uuid, request.pid))
        return await self.reply(context)


@asynccontextmanager
async def serving(reply, address):
    server = grpc.aio.server()
    servicer = Agent(reply)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(address)
    await server.start()
    yield servicer, address if address.startswith("unix:") else f"127.0.0.1:{port}"
    await server.stop(None)


async def a_map(_):
    return answer(segment(block(0, MIB, MIB, LIVE)))


@pytest.mark.parametrize("kind", ["socket", "loopback"])
async def test_an_agent_is_asked(tmp_path, kind):
    address = f"unix:{tmp_path}/agent.sock" if kind == "socket" else "127.0.0.1:0"
    async with serving(a_map, address) as (servicer, where):
        found = await ask_memory_map(where, PROCESS, NOW_S)

    assert isinstance(found, Taken)
    assert [("vllm:llama", "GPU-1", 77)] == servicer.asked


async def test_no_proxy_of_the_environment_is_used(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(a_map, "127.0.0.1:0") as (_, where):
        assert isinstance(await ask_memory_map(where, PROCESS, NOW_S), Taken)


async def test_a_slow_agent_is_left(monkeypatch):
    monkeypatch.setattr(agents, "ANSWERED_WITHIN_S", 0.2)

    async def never(_):
        await asyncio.Event().wait()

    async with serving(never, "127.0.0.1:0") as (_, where):
        found = await ask_memory_map(where, PROCESS, NOW_S)

    assert isinstance(found, Later)
    assert found.reason.startswith("the agent of node n1 did not answer within ")


async def test_an_answer_without_end_is_not_read():
    async def flood(_):
        return answer(refusal=(1 << 20) * "a")

    async with serving(flood, "127.0.0.1:0") as (_, where):
        found = await ask_memory_map(where, PROCESS, NOW_S)

    reason = "the agent of node n1 is overloaded, or answers with more than 1 MiB"
    assert Later(reason) == found


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (
            grpc.StatusCode.UNIMPLEMENTED,
            Refused("the agent of node n1 is too old to be asked for a map"),
        ),
        (grpc.StatusCode.INTERNAL, Later("the agent of node n1 could not answer: internal")),
    ],
)
async def test_an_error_is_told_without_its_words(code, outcome):
    async def fail(context):
        await context.abort(code, "<b>hostile</b>")

    async with serving(fail, "127.0.0.1:0") as (_, where):
        assert outcome == await ask_memory_map(where, PROCESS, NOW_S)


async def test_nobody_there(tmp_path):
    address = f"unix:{tmp_path}/agent.sock"

    found = await ask_memory_map(address, PROCESS, NOW_S)

    assert found == Later(
        f"the agent of node n1 cannot be reached at {address}, an address of the coordinator's own"
        " machine"
    )


async def test_the_agent_of_another_node_may_live_there():
    """Loopback of the node is loopback of the coordinator: the reader should know who answered."""

    async def no_tap(_):
        return answer(refusal="no tap: nobody of that name")

    async with serving(no_tap, "127.0.0.1:0") as (_, where):
        found = await ask_memory_map(where, PROCESS, NOW_S)

    asked = f"(asked at {where}, an address of the coordinator's own machine)"
    assert Refused(f"no tap: nobody of that name {asked}") == found


async def test_no_address():
    reason = "node n1: its agent names no address where it can be asked"
    assert Refused(reason) == await ask_memory_map("xds:///n1", PROCESS, NOW_S)


async def test_what_is_no_agent_at_all(unused_listener):
    """Something that speaks no gRPC, or says nothing."""
    found = await ask_memory_map(unused_listener, PROCESS, NOW_S)

    assert isinstance(found, Later)


@pytest.fixture
async def unused_listener():
    async def garbage(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + 4096 * b"x")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"{host}:{port}"
    server.close()
    await server.wait_closed()
