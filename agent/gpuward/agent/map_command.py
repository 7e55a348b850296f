"""The work of `gpuward agent map`: choose the process, ask the agent, draw the answer."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from gpuward.agent.agent_client import complaint
from gpuward.memory_map import svg as memory_map_svg
from gpuward.memory_map import text as memory_map_text
from gpuward.memory_map import wire as memory_map_wire
from gpuward.memory_map.model import MemoryMap
from gpuward.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The agent waits for the process for five seconds.
ANSWERED_WITHIN_S = 10.0
WIDTH_WITHOUT_TERMINAL = 120
OPTIONS = (("grpc.max_receive_message_length", memory_map_wire.MAX_MESSAGE_BYTES),)


class NoMapError(Exception):
    """There is no map; the message is one line, or a list to choose from, that says why."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which process on which GPU; empty where it does not matter.  ``gpu``: UUID or index."""

    gpu: str = ""
    process_key: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A process with a tap on a GPU."""

    process_key: str
    pid: int
    gpu_uuid: str
    gpu_index: int | None

    def __str__(self) -> str:
        gpu = self.gpu_uuid if self.gpu_index is None else str(self.gpu_index)
        return f"--pid {self.pid} --gpu {gpu}   {memory_map_text.plain(self.process_key)}"


def fetch(address: str, choice: Choice) -> MemoryMap:
    """Return the map that the agent at ``address`` answers with; raises ``NoMapError``."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        try:
            return _fetched(stub, choice)
        except grpc.RpcError as error:
            raise NoMapError(f"{address}: {complaint(error)}") from error


def picture(memory_map: MemoryMap) -> str:
    """Return the map for where standard output goes."""
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    columns, _ = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 0))
    return memory_map_text.render(memory_map, width=columns, colours=colours)


def svg(memory_map: MemoryMap) -> str:
    """Return the map as an SVG document."""
    return memory_map_svg.render(memory_map)


def candidates(snapshot: agent_pb2.Snapshot) -> Iterator[Candidate]:
    """Yield each process with a tap on each of its GPUs."""
    indexes = {gpu.uuid: gpu.index for gpu in snapshot.gpus}
    for process in snapshot.processes:
        if process.tapped:
            for uuid in process.gpu_uuids:
                yield Candidate(process.process_key, process.pid, uuid, indexes.get(uuid))


def chosen(found: Sequence[Candidate], choice: Choice) -> Candidate:
    """Return the one candidate that ``choice`` can mean; raises ``NoMapError``."""
    fitting = [candidate for candidate in found if _fits(candidate, choice)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise NoMapError("there are several; choose one:\n" + "\n".join(map(str, fitting)))
    if found:
        raise NoMapError("nobody fits; there are:\n" + "\n".join(map(str, found)))
    raise NoMapError("no process on this node shows its allocator: none has the tap")


def _fetched(stub: agent_pb2_grpc.AgentServiceStub, choice: Choice) -> MemoryMap:
    node = stub.GetSnapshot(agent_pb2.GetSnapshotRequest(), timeout=ANSWERED_WITHIN_S)
    candidate = chosen(list(candidates(node.snapshot)), choice)
    request = agent_pb2.GetMemoryMapRequest(
        process_key=candidate.process_key, gpu_uuid=candidate.gpu_uuid, pid=candidate.pid
    )
    answer = stub.GetMemoryMap(request, timeout=ANSWERED_WITHIN_S)
    if answer.refusal:
        raise NoMapError(memory_map_text.plain(answer.refusal))
    return MemoryMap(
        process=candidate.process_key,
        pid=answer.pid,
        gpu=candidate.gpu_uuid,
        taken_at_s=answer.taken_at.ToNanoseconds() / 1e9,
        segments=memory_map_wire.segments(answer),
        is_truncated=answer.truncated,
    )


def _fits(candidate: Candidate, choice: Choice) -> bool:
    return (
        choice.gpu in ("", candidate.gpu_uuid, str(candidate.gpu_index))
        and choice.process_key in ("", candidate.process_key)
        and choice.pid in (0, candidate.pid)
    )
