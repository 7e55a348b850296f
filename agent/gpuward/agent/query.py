"""Answer the coordinator's questions over gRPC, from the snapshot and the history.

No answer touches the driver: a question asked in an incident must not hang on the very thing that
the incident is about.  The memory map alone is asked of the process itself, within a bound.  A
probe is run by its worker, and refused where a context could hurt.
"""

# The generated servicer fixes the names of methods and parameters.
# ruff: noqa: ARG002, N802

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import (  # type: ignore[import-untyped]
    health,
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from gpuward.agent import release_answer, wire, wire_causes, wire_query
from gpuward.agent.history import Point
from gpuward.agent.memory_map_answer import Refused
from gpuward.agent.run_check import run_check
from gpuward.agent.signals import SIGNALS
from gpuward.agent.watch import TAKEN_WITHIN_S, TooManyWatchersError
from gpuward.memory_map import wire as memory_map_wire
from gpuward.v1 import agent_pb2, agent_pb2_grpc, drill_pb2_grpc, recording_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.agent.component import Components
    from gpuward.agent.drill_service import DrillService
    from gpuward.agent.history import History
    from gpuward.agent.memory_map_request import MemoryMapRequests
    from gpuward.agent.model import Snapshot
    from gpuward.agent.probe_request import ProbeRequests
    from gpuward.agent.recording_service import RecordingService
    from gpuward.agent.release import Release
    from gpuward.agent.watch import Watchers
    from gpuward.agent.window import Readings

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
MAX_CONCURRENT_CALLS = 40
STOP_WITHIN_S = 2.0
OPTIONS = (
    # Without this a second agent on the same port would take half of the calls, silently.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 64 << 10),
)


class Query(agent_pb2_grpc.AgentServiceServicer):
    """``AgentService`` over what the judge knows."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        history: History,
        readings: Readings,
        memory_maps: MemoryMapRequests,
        release: Release,
        probes: ProbeRequests,
        watchers: Watchers,
        components: Components,
    ) -> None:
        self._snapshot = snapshot
        self._history = history
        self._readings = readings
        self._memory_maps = memory_maps
        self._probes = probes
        self._watchers = watchers
        self._components = components
        self._release = release

    async def GetSnapshot(
        self,
        request: agent_pb2.GetSnapshotRequest,
        context: Context,
    ) -> agent_pb2.GetSnapshotResponse:
        snapshot = wire.snapshot_message(self._snapshot())
        return agent_pb2.GetSnapshotResponse(snapshot=snapshot)

    async def GetHistory(
        self, request: agent_pb2.GetHistoryRequest, context: Context
    ) -> agent_pb2.GetHistoryResponse:
        key = wire_query.series_key(request.series)
        if key.signal not in SIGNALS:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"no signal {key.signal[:80]!r}: names are those of docs/metrics.md, no prefix",
            )
        snapshot = self._snapshot()
        offset_s = snapshot.wall_offset_s
        since_s, until_s = wire_query.span(request, offset_s)
        answer = agent_pb2.GetHistoryResponse(series=request.series)
        for points in self._history.points(key, since_s, until_s, offset_s):
            answer.points.extend(wire_query.history_points(points, offset_s))
            # A day takes some ten milliseconds, and a scrape shall not wait for them.
            await asyncio.sleep(0)
        if not answer.points:
            # Not every series has a day; all of them have five minutes.
            window = self._readings.window(snapshot.at_s)
            kept = window.values(key, since_s)
            points = [Point(at_s, value) for _, at_s, value in kept if at_s < until_s]
            answer.points.extend(wire_query.history_points(points, offset_s))
        return answer

    # Writes instead of yielding: a yield to somebody who does not read would have no end.
    async def Watch(  # type: ignore[override]
        self, request: agent_pb2.WatchRequest, context: Context
    ) -> None:
        interval = request.min_interval
        try:
            async for snapshot in self._watchers.follow(interval.seconds + interval.nanos / 1e9):
                message = agent_pb2.WatchResponse(snapshot=wire.snapshot_message(snapshot))
                async with asyncio.timeout(TAKEN_WITHIN_S):
                    await context.write(message)
        except TooManyWatchersError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"nobody took a snapshot for {TAKEN_WITHIN_S:g} s",
            )

    async def RunProbe(
        self, request: agent_pb2.RunProbeRequest, context: Context
    ) -> agent_pb2.RunProbeResponse:
        return wire_query.probed(await self._probes.run(request.probe, request.gpu_uuid))

    async def GetMemoryMap(
        self, request: agent_pb2.GetMemoryMapRequest, context: Context
    ) -> agent_pb2.GetMemoryMapResponse:
        maps = self._memory_maps
        outcome = await maps.ask(request.process_key, request.gpu_uuid, request.pid)
        if isinstance(outcome, Refused):
            return agent_pb2.GetMemoryMapResponse(refusal=outcome.reason)
        return agent_pb2.GetMemoryMapResponse(
            segments=memory_map_wire.messages(outcome.segments),
            taken_at=wire.wall_time(maps.clock.wall_s()),
            truncated=outcome.is_truncated,
            pid=outcome.pid,
        )

    async def RunCheck(
        self, request: agent_pb2.RunCheckRequest, context: Context
    ) -> agent_pb2.RunCheckResponse:
        snapshot = self._snapshot()
        window = self._readings.window(snapshot.at_s)
        subject = wire_query.subject(request.subject)
        checked = run_check(request.check, subject, window, self._components)
        return wire_query.checked(checked, snapshot.wall_offset_s)

    async def GetCauses(
        self, request: agent_pb2.GetCausesRequest, context: Context
    ) -> agent_pb2.GetCausesResponse:
        snapshot = self._snapshot()
        window = self._readings.window(snapshot.at_s)
        return wire_causes.causes(window, request.service, snapshot.wall_offset_s)

    async def Release(
        self, request: agent_pb2.ReleaseRequest, context: Context
    ) -> agent_pb2.ReleaseResponse:
        offset_s = self._snapshot().wall_offset_s
        return await release_answer.answer(self._release, request, context, offset_s)


class QueryServer:
    """The gRPC server: ``AgentService``, health and reflection."""

    def __init__(self, query: Query, watchers: Watchers) -> None:
        self._watchers = watchers
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS, options=OPTIONS
        )
        agent_pb2_grpc.add_AgentServiceServicer_to_server(query, self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )

    def offer_drills(self, drills: DrillService) -> None:
        """Answer ``DrillService`` too; before ``start``."""
        drill_pb2_grpc.add_DrillServiceServicer_to_server(drills, self._server)

    def offer_recordings(self, recordings: RecordingService) -> None:
        """Answer ``RecordingService`` too; before ``start``."""
        recording_pb2_grpc.add_RecordingServiceServicer_to_server(recordings, self._server)

    async def start(self, address: str) -> str:
        """Listen on ``host:port`` or ``unix:path`` and return the address in use.

        Raises ``OSError`` when that cannot be.
        """
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        await self._server.start()
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        if address.startswith("unix:"):
            return address
        return f"{address.rpartition(':')[0]}:{port}"

    async def close(self) -> None:
        """Refuse new calls, let those in progress end, then stop."""
        self._watchers.stop()
        await self._server.stop(STOP_WITHIN_S)
