"""The work of `gpuward agent inject`: ask the running agent to raise a finding on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration

from gpuward.agent.agent_client import ANSWERED_WITHIN_S, NoAnswerError, complaint
from gpuward.memory_map.text import taken_text
from gpuward.v1 import drill_pb2, drill_pb2_grpc

if TYPE_CHECKING:
    from gpuward.agent.drills import Drill


def start(address: str, drill: Drill) -> str:
    """Start ``drill``, whose subject's GPU may be an index; return what to tell the person."""
    request = drill_pb2.StartDrillRequest(
        kind=drill.kind,
        code=drill.code,
        gpu_uuid=drill.subject.gpu,
        process_key=drill.subject.process,
        duration=Duration(seconds=int(drill.for_s)),
        page=drill.page,
    )
    with grpc.insecure_channel(address) as channel:
        try:
            answer = drill_pb2_grpc.DrillServiceStub(channel).StartDrill(
                request, timeout=ANSWERED_WITHIN_S
            )
        except grpc.RpcError as error:
            raise NoAnswerError(f"{address}: {complaint(error)}") from error
    loudness = "a page" if drill.page else "a ticket"
    until = taken_text(answer.until.ToNanoseconds() / 1e9)
    return f"drill of {drill.kind}, {loudness}, until {until}; --end ends it"


def end(address: str) -> str:
    """End every drill of the agent; return what to tell the person."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = drill_pb2_grpc.DrillServiceStub(channel).EndDrills(
                drill_pb2.EndDrillsRequest(), timeout=ANSWERED_WITHIN_S
            )
        except grpc.RpcError as error:
            raise NoAnswerError(f"{address}: {complaint(error)}") from error
    return f"{answer.ended} drills ended"
