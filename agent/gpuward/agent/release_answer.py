"""Answer who wants the driver to be let go of: who may ask, for how long, what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
import grpc.aio

from gpuward.agent import wire
from gpuward.agent.maintenance_keeper import RELEASE_AT_MOST_S
from gpuward.v1 import agent_pb2

if TYPE_CHECKING:
    from gpuward.agent.release import Release

MAX_REASON_LENGTH = 200


async def answer(
    release: Release,
    request: agent_pb2.ReleaseRequest,
    context: grpc.aio.ServicerContext[Any, Any],
    wall_offset_s: float,
) -> agent_pb2.ReleaseResponse:
    """Do what ``request`` asks for; one from elsewhere, who could blind the node, is refused."""
    if not is_on_this_node(context.peer()):
        await context.abort(
            grpc.StatusCode.PERMISSION_DENIED, "the driver is let go of from the node alone"
        )
    if request.end:
        await release.end()
        return agent_pb2.ReleaseResponse()
    for_s = request.duration.seconds + request.duration.nanos / 1e9
    if not 0 < for_s <= RELEASE_AT_MOST_S:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"duration: {for_s:g} s is not within 0..{RELEASE_AT_MOST_S:g}",
        )
    reason = " ".join(request.reason[:MAX_REASON_LENGTH].split()) or "asked for"
    maintenance, still_held = await release.begin(for_s, reason)
    until = wire.wall_time(maintenance.until_s + wall_offset_s)
    return agent_pb2.ReleaseResponse(until=until, still_held=still_held)


def is_on_this_node(peer: str) -> bool:
    """Return whether a caller, as gRPC names it, reached us over a socket or over loopback."""
    return unquote(peer).startswith(("unix:", "ipv4:127.", "ipv6:[::1]:"))
