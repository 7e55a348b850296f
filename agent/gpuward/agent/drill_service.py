"""Let a person on this node start and end drills.

A service of its own: what the coordinator may ask of an agent is another one, and nobody pages
people from afar.
"""

# The generated servicer fixes the names of methods and parameters.
# ruff: noqa: ARG002, N802

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from gpuward.agent import wire
from gpuward.agent.drills import Drill, DrillRefusedError, Drills
from gpuward.agent.model import Gpu, Snapshot, Subject
from gpuward.agent.release_answer import is_on_this_node
from gpuward.v1 import drill_pb2, drill_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    Context = grpc.aio.ServicerContext[Any, Any]


class DrillService(drill_pb2_grpc.DrillServiceServicer):
    """``DrillService`` over ``drills``."""

    def __init__(self, drills: Drills, snapshot: Callable[[], Snapshot]) -> None:
        self._drills = drills
        self._snapshot = snapshot

    async def StartDrill(
        self, request: drill_pb2.StartDrillRequest, context: Context
    ) -> drill_pb2.StartDrillResponse:
        await _only_from_here(context)
        snapshot = self._snapshot()
        try:
            finding_id, until_s = self._drills.start(_drill(request, snapshot))
        except DrillRefusedError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return drill_pb2.StartDrillResponse(
            finding_id=finding_id, until=wire.wall_time(until_s + snapshot.wall_offset_s)
        )

    async def EndDrills(
        self, request: drill_pb2.EndDrillsRequest, context: Context
    ) -> drill_pb2.EndDrillsResponse:
        await _only_from_here(context)
        return drill_pb2.EndDrillsResponse(ended=self._drills.end())


async def _only_from_here(context: Context) -> None:
    if not is_on_this_node(context.peer()):
        await context.abort(
            grpc.StatusCode.PERMISSION_DENIED, "drills are started from the node alone"
        )


def _drill(request: drill_pb2.StartDrillRequest, snapshot: Snapshot) -> Drill:
    """Return what is asked for; raises ``DrillRefusedError`` about a GPU that is not there."""
    return Drill(
        kind=request.kind,
        code=request.code,
        subject=_subject(request, snapshot),
        for_s=request.duration.seconds + request.duration.nanos / 1e9,
        page=request.page,
    )


def _subject(request: drill_pb2.StartDrillRequest, snapshot: Snapshot) -> Subject:
    gpu = _gpu(request.gpu_uuid, snapshot) if request.gpu_uuid else None
    process = next((p for p in snapshot.processes if p.key == request.process_key), None)
    if request.process_key and process is None:
        raise DrillRefusedError(f"no process {request.process_key[:80]!r} holds a GPU here")
    subject = Subject() if gpu is None else Subject(gpu=gpu.uuid, gpu_serial=gpu.serial)
    if process is None:
        return subject
    return Subject(
        gpu=subject.gpu,
        gpu_serial=subject.gpu_serial,
        process=process.key,
        pid=process.pid,
        unit=process.unit,
        pod=process.pod,
        container=process.container,
        engine=process.engine,
        model=process.model,
        service=process.service,
    )


def _gpu(name: str, snapshot: Snapshot) -> Gpu:
    for gpu in snapshot.gpus:
        if name in (gpu.uuid, str(gpu.index)):
            return gpu
    raise DrillRefusedError(f"no GPU {name[:80]!r} here")
