"""`gpuward agent map`: choose the process, ask the agent, say in a line what is wrong."""

from __future__ import annotations

import sys
from concurrent import futures

import grpc
import pytest
from click.testing import CliRunner

from gpuward.agent.__main__ import agent
from gpuward.agent.map_command import Candidate, Choice, NoMapError, candidates, chosen, picture
from gpuward.memory_map import wire
from gpuward.memory_map.model import Block, BlockState, MemoryMap, Segment
from gpuward.v1 import agent_pb2, agent_pb2_grpc

MIB = 2**20
ONE = Candidate("vllm:llama", 77, "GPU-a", 0)
TWO = Candidate("vllm:llama", 78, "GPU-b", 1)
THREE = Candidate("sglang:qwen", 79, "GPU-b", 1)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        pytest.param(Choice(gpu="0"), ONE, id="index"),
        pytest.param(Choice(gpu="GPU-a"), ONE, id="UUID"),
        pytest.param(Choice(pid=78), TWO, id="pid"),
        pytest.param(Choice(process_key="sglang:qwen"), THREE, id="key"),
        pytest.param(Choice(gpu="1", process_key="vllm:llama"), TWO, id="key and GPU"),
    ],
)
def test_chosen(choice, expected):
    assert expected == chosen([ONE, TWO, THREE], choice)


@pytest.mark.parametrize(
    ("found", "choice", "complaint"),
    [
        pytest.param([ONE, TWO], Choice(), "several; choose one:\n--pid 77 --gpu 0", id="several"),
        pytest.param([ONE], Choice(gpu="7"), "nobody fits; there are:\n--pid 77", id="nobody fits"),
        pytest.param([], Choice(), "none has the tap", id="nobody at all"),
    ],
)
def test_not_chosen(found, choice, complaint):
    with pytest.raises(NoMapError, match=r"^[^\x1b]*$") as error:
        chosen(found, choice)

    assert complaint in str(error.value)


SNAPSHOT = agent_pb2.Snapshot(
    gpus=[agent_pb2.GpuIdentity(uuid="GPU-a", index=0)],
    processes=[
        agent_pb2.ProcessIdentity(
            process_key="vllm:llama", pid=77, gpu_uuids=["GPU-a", "GPU-gone"], tapped=True
        ),
        agent_pb2.ProcessIdentity(process_key="triton", pid=80, gpu_uuids=["GPU-a"]),
    ],
)


def test_candidates_have_a_tap():
    assert [ONE, Candidate("vllm:llama", 77, "GPU-gone", None)] == list(candidates(SNAPSHOT))
    assert str(Candidate("a\x1bb", 77, "GPU-gone", None)) == "--pid 77 --gpu GPU-gone   a\ufffdb"


class Agent(agent_pb2_grpc.AgentServiceServicer):
    """Answers as a test says."""

    answer = agent_pb2.GetMemoryMapResponse(refusal="busy: ask again in 18 s")

    def GetSnapshot(self, request, context):  # noqa: N802
        return agent_pb2.GetSnapshotResponse(snapshot=SNAPSHOT)

    def GetMemoryMap(self, request, context):  # noqa: N802
        assert (request.process_key, request.gpu_uuid, request.pid) == ("vllm:llama", "GPU-a", 77)
        return self.answer


@pytest.fixture
def served(tmp_path):
    """An agent on a Unix socket, and its address."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    servicer = Agent()
    agent_pb2_grpc.add_AgentServiceServicer_to_server(servicer, server)
    address = f"unix://{tmp_path}/agent.sock"
    server.add_insecure_port(address)
    server.start()
    yield servicer, address
    server.stop(None).wait()


def run(address, *arguments):
    runner = CliRunner(env={"COLUMNS": "120"})
    return runner.invoke(agent, ["map", "--address", address, "--gpu", "0", *arguments])


@pytest.fixture
def mapped(served):
    servicer, address = served
    blocks = (
        Block(0, 8 * MIB, 8 * MIB, BlockState.ALLOCATED),
        Block(8 * MIB, 12 * MIB, 0, BlockState.FREE),
    )
    servicer.answer = agent_pb2.GetMemoryMapResponse(
        segments=wire.messages([Segment(0x7F0000000000, 20 * MIB, blocks)]),
        taken_at={"seconds": 1_800_000_000},
        pid=77,
    )
    return address


def test_the_picture_is_plain_where_nobody_looks(mapped):
    done = run(mapped)

    assert done.exit_code == 0, done.output
    assert "Memory of vllm:llama (pid 77)\non GPU-a, 2027-01-15 08:00:00 UTC\n" in done.output
    assert "large  default         1       2  20.0 MiB   8.00 MiB" in done.output
    assert f"\n7f0000000000 {'#' * 107}\n7f00006b0000 {'#' * 21}{'x' * 86}\n" in done.output
    assert "\x1b" not in done.output


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "coloured"),
    [
        pytest.param(True, "", True, id="a terminal"),
        pytest.param(True, "1", False, id="NO_COLOR"),
        pytest.param(False, "", False, id="a pipe"),
    ],
)
def test_colours_are_for_terminals(monkeypatch, is_terminal, no_color, coloured):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    segment = Segment(0, MIB, (Block(0, MIB, MIB, BlockState.ALLOCATED),))

    assert coloured == ("\x1b[" in picture(MemoryMap("p", 1, "GPU-a", 0.0, (segment,))))


def test_the_picture_as_a_file(mapped, tmp_path):
    done = run(mapped, "--svg", str(tmp_path / "map.svg"))

    assert (done.exit_code, done.output) == (0, f"{tmp_path}/map.svg: written\n")
    assert (tmp_path / "map.svg").read_text().startswith("<svg ")


def test_a_file_that_cannot_be_written(mapped, tmp_path):
    done = run(mapped, "--svg", str(tmp_path / "no" / "map.svg"))

    assert (done.exit_code, "No such file or directory" in done.output) == (1, True)


def test_a_refusal_is_told(served):
    done = run(served[1])

    assert (done.exit_code, done.output) == (1, "gpuward agent: busy: ask again in 18 s\n")


def test_nobody_there(tmp_path):
    done = run(f"unix://{tmp_path}/agent.sock")

    assert done.exit_code == 1
    assert "no agent answers there" in done.output
    assert "Traceback" not in done.output
