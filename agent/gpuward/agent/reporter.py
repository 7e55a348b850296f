"""Tell the coordinator what is open on this node, and hand over what happened once.

One stream, one report in flight, every wait bounded.  A report carries all open findings, so one
that is lost costs nothing; spooled events are deleted only when the coordinator says that they are
durable there.  A coordinator that is away is normal: the agent says so once, and comes back with a
jittered back-off, so that a thousand agents do not return in the same second.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import structlog

from gpuward.agent import wire
from gpuward.agent.disk_thread import DiskBusyError
from gpuward.agent.version import VERSION
from gpuward.v1 import coordinator_pb2, coordinator_pb2_grpc

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence

    from gpuward.agent.model import Snapshot
    from gpuward.agent.spool import Spool
    from gpuward.daemon.clock import Clock

    Stream = grpc.aio.StreamStreamCall[
        coordinator_pb2.SessionRequest, coordinator_pb2.SessionResponse
    ]

log = structlog.get_logger()

PROTOCOL_REVISION = 1
CAPABILITIES = ("history", "memory_map", "probe")
ANSWER_WITHIN_S = 5.0
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
# A storm of events is a few reports, not one for each.
LEAST_GAP_S = 0.2
# Whatever a coordinator asks for.
SHORTEST_INTERVAL_S = 1.0
LONGEST_INTERVAL_S = 300.0
# Times the largest event of the spool: below the 4 MiB that gRPC accepts in one message.
MAX_EVENTS = 200


# An upgrade is over by then; a node that stays away longer is missed.
AWAY_AT_MOST_S = 300.0
OPTIONS = (
    # A peer that vanished without a word is noticed between two reports.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Our own back-off decides, not one below it.
    ("grpc.initial_reconnect_backoff_ms", 1_000),
)


class SessionLostError(Exception):
    """The coordinator is away or answers against the protocol; the message says how."""


class Reporter:
    """Keeps one session with the coordinator at ``address``."""

    def __init__(
        self,
        address: str,
        *,
        snapshot: Callable[[], Snapshot],
        changed: asyncio.Event,
        spool: Spool,
        was_heard: Callable[[Iterable[str]], None],
        clock: Clock,
        instance: str,
        query_address: str,
        interval_s: float,
        jitter: random.Random,
    ) -> None:
        """``changed`` is set whenever a report is worth sending before its time.

        ``was_heard`` is told the ids of findings whose report was acknowledged.
        """
        self._address = address
        self._snapshot = snapshot
        self._changed = changed
        self._spool = spool
        self._was_heard = was_heard
        self._clock = clock
        self._instance = instance
        self._query_address = query_address
        self._interval_s = interval_s
        self._jitter = jitter
        self._acknowledged = 0
        self._said: str | None = None
        self._is_spool_lost = False
        self.connected = False
        # Reports sent, and those of them that were acknowledged.
        self.reports = 0
        self.reports_acknowledged = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Report until ``stop``, then say that this node leaves on purpose."""
        failures = 0
        while not stop.is_set():
            try:
                await self._session(stop)
                failures = 0
            except SessionLostError as error:
                failures = 1 if self.connected else failures + 1
                self._say_lost(str(error))
            self.connected = False
            if not stop.is_set():
                await self._back_off(failures, stop)

    async def _back_off(self, failures: int, stop: asyncio.Event) -> None:
        # The next session begins with a full report: what changed until now is in it.
        self._changed.clear()
        now_s = self._clock.mono_s()
        first_s = now_s + FIRST_BACKOFF_S * self._jitter.uniform(0.5, 1.0)
        await first_of(self._clock, first_s, stop)
        # News is worth another try before its time, though no more than one a second.
        until_s = now_s + backoff_s(failures, self._jitter)
        await first_of(self._clock, until_s, stop, self._changed)

    async def _session(self, stop: asyncio.Event) -> None:
        """Connect and report until ``stop`` or a drain; raises ``SessionLostError``."""
        async with grpc.aio.insecure_channel(self._address, options=OPTIONS) as channel:
            stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
            stream = stub.Session()
            try:
                await self._talk(stream, stop)
            except TimeoutError as error:
                raise SessionLostError(f"no answer within {ANSWER_WITHIN_S:.0f} s") from error
            except grpc.aio.AioRpcError as error:
                raise SessionLostError(f"{error.code().name}: {error.details()}") from error
            except asyncio.InvalidStateError as error:
                raise SessionLostError("the stream was closed") from error
            finally:
                stream.cancel()

    async def _talk(self, stream: Stream, stop: asyncio.Event) -> None:
        interval_s = await self._hello(stream)
        self._say_connected()
        while True:
            # Before the report is built: what changes from here on wants the next one.
            self._changed.clear()
            due_s = self._clock.mono_s() + interval_s
            is_complete, is_drained = await self._report(stream)
            if is_drained:
                return
            if stop.is_set():
                await self._leave(stream)
                return
            if is_complete:
                await first_of(self._clock, self._clock.mono_s() + LEAST_GAP_S, stop)
                await first_of(self._clock, due_s, stop, self._changed)

    async def _hello(self, stream: Stream) -> float:
        """Introduce the node; returns how often it shall report, seconds."""
        snapshot = self._snapshot()
        hello = coordinator_pb2.Hello(
            protocol_revision=PROTOCOL_REVISION,
            node=snapshot.node,
            boot_id=snapshot.boot_id,
            agent_version=VERSION,
            capabilities=CAPABILITIES,
            query_address=self._query_address,
        )
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await stream.write(coordinator_pb2.SessionRequest(hello=hello))
            answer = await _read(stream)
        if not answer.HasField("hello_ack"):
            raise SessionLostError("the coordinator did not answer the greeting")
        asked_s = answer.hello_ack.report_interval_s or self._interval_s
        return min(max(asked_s, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)

    async def _report(self, stream: Stream) -> tuple[bool, bool]:
        """Send one report; returns whether it held every event, and whether we shall leave."""
        events = await self._events()
        self.reports += 1
        snapshot = self._snapshot()
        message = wire.report(snapshot, instance=self._instance, seq=self.reports, events=events)
        is_drained = False
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await stream.write(coordinator_pb2.SessionRequest(report=message))
            answer = await _read(stream)
            while answer.HasField("drain"):
                is_drained = True
                answer = await _read(stream)
        if answer.report_ack.report_seq != self.reports:
            raise SessionLostError("the coordinator acknowledged another report than ours")
        self.reports_acknowledged += 1
        self._was_heard([opened.finding_id for opened in snapshot.open_findings])
        await self._forget(answer.report_ack.event_seq, events)
        return len(events) < MAX_EVENTS, is_drained

    async def _events(self) -> list[tuple[int, bytes]]:
        """Return what is spooled; nothing while the disk does not answer: findings go first."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                events = await self._spool.after(self._acknowledged, MAX_EVENTS)
        except (TimeoutError, DiskBusyError, sqlite3.Error) as error:
            if not self._is_spool_lost:
                log.warning("spool.unreadable", reason=str(error) or "timed out")
            self._is_spool_lost = True
            return []
        self._is_spool_lost = False
        return events

    async def _forget(self, event_seq: int, sent: Sequence[tuple[int, bytes]]) -> None:
        if event_seq <= self._acknowledged:
            return
        if not sent or event_seq > sent[-1][0]:
            # To believe it would delete what nobody has.
            raise SessionLostError("the coordinator acknowledged events that were not sent")
        self._acknowledged = event_seq
        # Not deleted now, they are sent again after a restart, under the same numbers.
        with contextlib.suppress(TimeoutError, DiskBusyError):
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._spool.acknowledge(event_seq)

    async def _leave(self, stream: Stream) -> None:
        until = wire.wall_time(self._clock.wall_s() + AWAY_AT_MOST_S)
        drain = coordinator_pb2.Drain(reason="shutdown", until=until)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await stream.write(coordinator_pb2.SessionRequest(drain=drain))
            await stream.done_writing()
            # The coordinator closes its side when it has read ours.
            while await stream.read() is not grpc.aio.EOF:
                pass

    def _say_connected(self) -> None:
        self.connected = True
        if self._said != "":
            log.info("coordinator.connected", address=self._address)
        self._said = ""

    def _say_lost(self, reason: str) -> None:
        # Once for each time that it goes away, not for each try.
        if not self._said:
            log.warning("coordinator.unreachable", address=self._address, reason=reason)
        self._said = reason


def backoff_s(failures: int, jitter: random.Random) -> float:
    """Return how long to wait after ``failures`` tries in a row: 1 s doubling to 60 s, half random.

    0 failures (a planned drain) waits like the first.
    """
    doublings = min(max(failures, 1) - 1, 10)
    longest_s = min(FIRST_BACKOFF_S * 2.0**doublings, LONGEST_BACKOFF_S)
    return longest_s * jitter.uniform(0.5, 1.0)


async def first_of(clock: Clock, until_s: float, *events: asyncio.Event) -> None:
    """Return at ``until_s``, or when one of ``events`` is set before."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(_wait(event)) for event in events]
        waits.append(group.create_task(clock.sleep_until(until_s)))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _read(stream: Stream) -> coordinator_pb2.SessionResponse:
    answer = await stream.read()
    if not isinstance(answer, coordinator_pb2.SessionResponse):
        raise SessionLostError("the coordinator closed the stream")
    return answer
