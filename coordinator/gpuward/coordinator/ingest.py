"""Serve agents: one bidirectional stream per node.

A report is acknowledged once what it changes is durable: after the commit of its group, or at once
when it changes no finding and brings no event (counters then follow in a later, batched write).
"""

# The generated servicer fixes the names of methods.
# ruff: noqa: N802

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]
from sqlalchemy.exc import SQLAlchemyError

from gpuward.coordinator import wire
from gpuward.coordinator.filing import Superseded
from gpuward.coordinator.reader import Reader
from gpuward.coordinator.store_failures import StoreFailures, reason_of
from gpuward.coordinator.version import installed_version
from gpuward.coordinator.wire_finding import Known
from gpuward.v1 import coordinator_pb2 as pb
from gpuward.v1 import coordinator_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gpuward.coordinator.intake import Intake
    from gpuward.daemon.clock import Clock
    from gpuward.v1 import report_pb2

    Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger()

SERVICE = pb.DESCRIPTOR.services_by_name["CoordinatorService"].full_name
# Agents report this often unless something is raised.
REPORT_INTERVAL_S = 10.0
MIN_REPORT_INTERVAL_S = 1.0
# A stream that does not even say hello is closed.
HELLO_WITHIN_S = 10.0
STOP_WITHIN_S = 1.0
REASON_LIMIT = 200
OPTIONS = (
    # Without this a second coordinator on the same port would take half of the nodes, silently.
    ("grpc.so_reuseport", 0),
    # 500 events and 1,000 findings with their evidence fit.
    ("grpc.max_receive_message_length", 8 << 20),
    # A node that vanished without a word is noticed, and its stream freed.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(slots=True)
class _Session:
    node: str
    number: int
    # What needs mending in one report does in the next: the log says it once a session.
    mended: bool = False
    known: Known = field(default_factory=Known)


class Ingest(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """``CoordinatorService`` over the store."""

    def __init__(self, intake: Intake, clock: Clock, *, speed: float) -> None:
        self._intake = intake
        self._clock = clock
        self._report_interval_s = max(MIN_REPORT_INTERVAL_S, REPORT_INTERVAL_S / speed)
        self._failures = StoreFailures("report")

    async def Session(
        self, request_iterator: AsyncIterator[pb.SessionRequest], context: Context
    ) -> AsyncIterator[pb.SessionResponse]:
        hello = await self._hello(request_iterator, context)
        session = _Session(hello.node, await self._open(hello, context))
        log.info("session.opened", node=hello.node, agent=hello.agent_version)
        yield pb.SessionResponse(
            hello_ack=pb.HelloAck(
                protocol_revision=wire.PROTOCOL_REVISION,
                coordinator_version=installed_version(),
                report_interval_s=self._report_interval_s,
            )
        )
        try:
            async for request in request_iterator:
                match request.WhichOneof("message"):
                    case "report":
                        yield await self._report(session, request.report, context)
                    case "drain":
                        await self._drain(hello.node, request.drain, context)
                    case other:
                        await _refuse(context, f"unexpected message in a session: {other}")
        finally:
            self._intake.close_session(session.node, session.number)
            log.info("session.closed", node=hello.node)

    async def _hello(
        self, requests: AsyncIterator[pb.SessionRequest], context: Context
    ) -> wire.Hello:
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                first = await anext(aiter(requests), pb.SessionRequest())
        except TimeoutError:
            await _refuse(context, f"no hello within {HELLO_WITHIN_S:.0f} s")
        if not first.HasField("hello"):
            await _refuse(context, "the first message of a session must be a hello")
        try:
            return wire.hello_from(first.hello, Reader(self._clock.wall_s()))
        except wire.BadMessage as error:
            await _refuse(context, str(error), grpc.StatusCode.FAILED_PRECONDITION)

    async def _open(self, hello: wire.Hello, context: Context) -> int:
        try:
            return await self._intake.open_session(
                hello.node,
                self._clock.wall_s(),
                boot_id=hello.boot_id,
                agent_version=hello.agent_version,
                query_address=hello.query_address,
            )
        except SQLAlchemyError as error:
            await self._unavailable(context, error)

    async def _report(
        self, session: _Session, message: report_pb2.Report, context: Context
    ) -> pb.SessionResponse:
        now_s = self._clock.wall_s()
        reader = Reader(now_s)
        try:
            report = wire.report_from(message, session.node, reader, session.known)
            taken = await self._intake.take(session.number, report, now_s)
        except wire.BadMessage as error:
            await _refuse(context, str(error))
        except SQLAlchemyError as error:
            await self._unavailable(context, error)
        if reader.notes and not session.mended:
            session.mended = True
            log.warning("report.mended", node=session.node, seq=report.seq, notes=reader.notes)
        if isinstance(taken, Superseded):
            reason = f"a newer session of node {session.node!r} has begun"
            await _refuse(context, reason, grpc.StatusCode.ABORTED)
        ack = pb.ReportAck(report_seq=report.seq, event_seq=taken.event_seq)
        return pb.SessionResponse(report_ack=ack)

    async def _unavailable(self, context: Context, error: SQLAlchemyError) -> NoReturn:
        # The agent keeps what it has and comes back; nothing was acknowledged.
        self._failures.note(error, self._clock.mono_s())
        reason = f"the coordinator's database failed: {reason_of(error)[:REASON_LIMIT]}"
        await context.abort(grpc.StatusCode.UNAVAILABLE, reason)
        raise AssertionError("abort returned")

    async def _drain(self, node: str, message: pb.Drain, context: Context) -> None:
        until_s = wire.drain_until(message, Reader(self._clock.wall_s()))
        try:
            await self._intake.drain(node, until_s)
        except SQLAlchemyError as error:
            await self._unavailable(context, error)
        log.info("node.drained", node=node, reason=message.reason[:200], until_s=until_s)


async def _refuse(
    context: Context,
    reason: str,
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
) -> NoReturn:
    log.warning("session.refused", peer=context.peer(), reason=reason)
    await context.abort(code, reason)
    raise AssertionError("abort returned")


class IngestServer:
    """The gRPC server: ``CoordinatorService``, health and reflection."""

    def __init__(self, ingest: Ingest) -> None:
        self._server = grpc.aio.server(options=OPTIONS)
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(ingest, self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )

    async def start(self, address: str) -> str:
        """Listen on ``host:port`` and return the address in use; raises ``OSError``."""
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        await self._server.start()
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        return f"{address.rpartition(':')[0]}:{port}"

    async def close(self) -> None:
        """Refuse new streams and end those that are open."""
        await self._server.stop(STOP_WITHIN_S)
