"""Let a person on this node record what the agent sees, where its configuration allows that.

A service of its own, as drills have one: the coordinator cannot record from afar.
"""

# The generated servicer fixes the names of methods and parameters.
# ruff: noqa: N802

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog

from gpuward.agent.recording_listeners import TooManyRecordersError, TooSlowError
from gpuward.agent.release_answer import is_on_this_node
from gpuward.agent.watch import TAKEN_WITHIN_S
from gpuward.v1 import recording_pb2, recording_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.agent.config import AgentConfig
    from gpuward.agent.recording_listeners import Recorders
    from gpuward.agent.window import Window
    from gpuward.daemon.clock import Clock

    Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger()

LONGEST_S = 3_600.0


class RecordingService(recording_pb2_grpc.RecordingServiceServicer):
    """``RecordingService`` over what ``recorders`` are told; ``window``: what was before."""

    def __init__(
        self,
        recorders: Recorders,
        window: Callable[[float], Window],
        clock: Clock,
        config: AgentConfig,
    ) -> None:
        self._recorders = recorders
        self._window = window
        self._clock = clock
        self._node = config.node_name
        self._is_allowed = config.recording.allowed

    # Writes instead of yielding: a yield to somebody who does not read would have no end.
    async def Record(  # type: ignore[override]
        self, request: recording_pb2.RecordRequest, context: Context
    ) -> None:
        for_s = request.duration.seconds + request.duration.nanos / 1e9
        await self._check(for_s, context)
        log.warning("recording.began", for_s=for_s, with_names=request.with_names)
        window = self._window(self._clock.mono_s())
        try:
            async with aclosing(
                self._recorders.record(
                    window,
                    node=self._node,
                    wall_s=self._clock.wall_s(),
                    for_s=for_s,
                    with_names=request.with_names,
                )
            ) as chunks:
                async for chunk in chunks:
                    async with asyncio.timeout(TAKEN_WITHIN_S):
                        await context.write(recording_pb2.RecordResponse(records=chunk))
        except TooManyRecordersError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except (TooSlowError, TimeoutError) as error:
            reason = str(error) or f"nobody took a part for {TAKEN_WITHIN_S:g} s"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)
        finally:
            log.info("recording.ended")

    async def _check(self, for_s: float, context: Context) -> None:
        if not is_on_this_node(context.peer()):
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "recordings are made from the node alone"
            )
        if not self._is_allowed:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                "[recording] allowed is false: set it to true in agent.toml and restart the agent",
            )
        if not 0 < for_s <= LONGEST_S:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"duration: {for_s:g} s is not within 0..{LONGEST_S:g}",
            )
