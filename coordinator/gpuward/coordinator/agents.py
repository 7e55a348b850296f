"""Ask agents over gRPC, at the address that each names in its hello.

An agent may be old, slow, gone or hostile: every call has a deadline and a size, no text of it is
believed, and a map that no allocator can have is none.  Agents answer without transport security on
loopback and Unix sockets only, so that is how they are asked.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from gpuward.coordinator.reader import AHEAD_S, Reader
from gpuward.memory_map import wire
from gpuward.memory_map.model import MemoryMap
from gpuward.memory_map.plausible import is_plausible
from gpuward.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from gpuward.coordinator.map_request import MappedProcess

# The agent waits for the process as long.
ANSWERED_WITHIN_S = 5.0
# A tap walks 10,000 at most; twice that is read in some 100 ms, which delay everything else.
MAX_BLOCKS = 20_000
# So many take half of this.  Half a million empty segments fit too, and cost 40 ms and 30 MiB.
MAX_ANSWER_BYTES = 1 << 20
REASON_LIMIT = 300
LONGEST_WAIT_S = 600.0
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # Agents are neighbours, whatever proxy the environment names for the world outside.
    ("grpc.enable_http_proxy", 0),
)
_UNIX = re.compile(r"unix:(?://)?(/[^\0]{1,107})")
_HOST_PORT = re.compile(r"(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}")
_OWN = ("unix:", "127.", "[::1]:", "localhost:")
_LATER = re.compile(r"busy: .*\bask again in ([0-9]{1,4}) s")


@dataclass(frozen=True, slots=True)
class Taken:
    """A map that can be so."""

    memory_map: MemoryMap


@dataclass(frozen=True, slots=True)
class Later:
    """No map now; ``after_s`` is ``None`` when nobody says when to ask again."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """No map, and asking again would not help."""

    reason: str


Outcome = Taken | Later | Refused


async def ask_memory_map(address: str, process: MappedProcess, now_s: float) -> Outcome:
    """Return the map of ``process`` that the agent at ``address`` answers with, or why not."""
    target = target_of(address)
    if target is None:
        return Refused(f"node {process.node}: its agent names no address where it can be asked")
    request = agent_pb2.GetMemoryMapRequest(
        process_key=process.process_key, gpu_uuid=process.gpu_uuid, pid=process.pid
    )
    try:
        async with (
            asyncio.timeout(ANSWERED_WITHIN_S),
            grpc.aio.insecure_channel(target, options=OPTIONS) as channel,
        ):
            stub = agent_pb2_grpc.AgentServiceStub(channel)
            answer = await stub.GetMemoryMap(request, timeout=ANSWERED_WITHIN_S)
    except TimeoutError:
        return _failure(grpc.StatusCode.DEADLINE_EXCEEDED, process.node, address)
    except grpc.aio.AioRpcError as error:
        return _failure(error.code(), process.node, address)
    outcome = read_answer(answer, process, now_s)
    if isinstance(outcome, Refused) and outcome.reason.startswith("no tap"):
        # Perhaps the agent of another node lives where this one said that it does.
        return Refused(f"{outcome.reason} (asked at {address}{_whose(address)})")
    return outcome


def target_of(address: str) -> str | None:
    """Return what gRPC shall connect to; ``None`` for what is neither a socket nor host:port."""
    if found := _UNIX.fullmatch(address):
        return f"unix:{found[1]}"
    return f"dns:{address}" if _HOST_PORT.fullmatch(address) else None


def read_answer(
    answer: agent_pb2.GetMemoryMapResponse, process: MappedProcess, now_s: float
) -> Outcome:
    """Return what ``answer``, which came at ``now_s``, says of ``process``."""
    if answer.refusal:
        return _refusal(Reader(now_s).text(answer.refusal, "refusal", REASON_LIMIT))
    if process.pid not in (0, answer.pid):
        return Refused("unusable: the agent answered for another process")
    is_cut = _cut(answer, MAX_BLOCKS)
    segments = wire.segments(answer)
    if not is_plausible(segments):
        return Refused("unusable: no allocator can be as the agent answered")
    taken_at_s = answer.taken_at.seconds + answer.taken_at.nanos / 1e9
    return Taken(
        MemoryMap(
            process=process.process_key,
            pid=answer.pid,
            gpu=process.gpu_uuid,
            taken_at_s=taken_at_s if abs(taken_at_s - now_s) <= AHEAD_S else now_s,
            segments=segments,
            is_truncated=answer.truncated or is_cut,
        )
    )


def _cut(answer: agent_pb2.GetMemoryMapResponse, room: int) -> bool:
    """Leave ``room`` segments and blocks in ``answer``; whether there were more."""
    for place, segment in enumerate(answer.segments):
        room -= 1 + len(segment.blocks)
        if room < 0:
            del segment.blocks[max(0, len(segment.blocks) + room) :]
            del answer.segments[place + 1 :]
            return True
    return False


def _refusal(reason: str) -> Later | Refused:
    if found := _LATER.match(reason):
        return Later(reason, min(LONGEST_WAIT_S, max(1.0, float(found[1]))))
    is_passing = reason.startswith(("busy:", "timeout:"))
    return Later(reason) if is_passing else Refused(reason)


def _whose(address: str) -> str:
    is_own = address.startswith(_OWN)
    return ", an address of the coordinator's own machine" if is_own else ""


def _failure(code: grpc.StatusCode, node: str, address: str) -> Later | Refused:
    where = f"the agent of node {node}"
    match code:
        case grpc.StatusCode.UNIMPLEMENTED:
            return Refused(f"{where} is too old to be asked for a map")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Later(f"{where} did not answer within {ANSWERED_WITHIN_S:.0f} s")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            limit = f"{MAX_ANSWER_BYTES >> 20} MiB"
            return Later(f"{where} is overloaded, or answers with more than {limit}")
        case grpc.StatusCode.UNAVAILABLE:
            return Later(f"{where} cannot be reached at {address}{_whose(address)}")
        case _:
            return Later(f"{where} could not answer: {code.name.lower()}")
