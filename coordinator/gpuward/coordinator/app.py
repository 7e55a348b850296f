"""Wire the coordinator together: the only module that knows every other.

One task group holds all loops, one exit stack closes what was opened.  Everything that must survive
is in the database, so a loop may be cancelled at any await.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from gpuward.coordinator import config as configuration
from gpuward.coordinator import notifiers
from gpuward.coordinator.calm import close_calm
from gpuward.coordinator.ingest import Ingest, IngestServer
from gpuward.coordinator.migrate import DatabaseError, upgrade
from gpuward.coordinator.outbox import Outbox
from gpuward.coordinator.store import Store
from gpuward.coordinator.store_dialect import create_engine
from gpuward.coordinator.timers import Escalation, fire_due
from gpuward.coordinator.watch_nodes import judge_nodes
from gpuward.coordinator.watch_services import forget_old_readings, judge_services
from gpuward.coordinator.web.app import create_app
from gpuward.coordinator.web_server import WebServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine
    from starlette.applications import Starlette

    from gpuward.coordinator.config import CoordinatorConfig
    from gpuward.daemon.clock import Clock
    from gpuward.daemon.notify import Notifier

log = structlog.get_logger()

# A page leaves within a second of its decision: timers and outbox look four times a second.
TIMER_PERIOD_S = 0.25
# How often services and nodes are judged; divided by the speed, but no more often than this.
WATCH_PERIOD_S = 5.0
MIN_WATCH_PERIOD_S = 0.5
FORGET_PERIOD_S = 60.0
# After the database failed, a loop waits this long: its work is still there.
FAILED_PAUSE_S = 2.0
ADDRESSES_FILE = "addresses.json"


class StartError(Exception):
    """The coordinator cannot start; the message is one line and names the cause."""


async def open_engine(config: CoordinatorConfig) -> AsyncEngine:
    """Return the database, brought to this version's schema; raises ``StartError``."""
    _make_state_directory(Path(config.state.directory))
    try:
        engine = create_engine(config.database_url)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise StartError(f"database.url: {config.database_url}: {error}") from error
    try:
        await upgrade(engine)
    except DatabaseError as error:
        await engine.dispose()
        raise StartError(str(error)) from error
    return engine


def _make_state_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"state.directory: {directory}: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StartError(f"state.directory: {directory}: not writable by this user")


class App:
    """The coordinator as a service."""

    def __init__(self, config: CoordinatorConfig, clock: Clock, notifier: Notifier) -> None:
        self._config = config
        self._clock = clock
        self._notifier = notifier
        self._speed = config.escalation.speed

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; raises ``StartError`` or ``ConfigError``."""
        plan = Escalation(
            configuration.policy(self._config), configuration.roster(self._config), self._speed
        )
        async with AsyncExitStack() as stack:
            engine = await open_engine(self._config)
            stack.push_async_callback(engine.dispose)
            store = Store(engine, policy=plan.policy, speed=self._speed)
            web = WebServer(self._web_app(store, plan))
            stack.callback(web.close)
            ingest = IngestServer(Ingest(store, self._clock, speed=self._speed))
            stack.push_async_callback(ingest.close)
            http = self._bind(web)
            outbox = await self._outbox(stack, store, http)
            grpc = await self._start(ingest)
            self._write_addresses({"http": http, "grpc": grpc})
            async with asyncio.TaskGroup() as group:
                loops = [
                    group.create_task(self._repeat(name, period_s, work))
                    for name, period_s, work in self._loops(store, plan, outbox, group)
                ]
                group.create_task(web.serve())
                self._notifier.ready(f"people on http://{http}, agents on {grpc}")
                log.info("coordinator.started", http=http, grpc=grpc, speed=self._speed)
                await stop.wait()
                self._notifier.stopping()
                for loop in loops:
                    loop.cancel()
                web.stop()
        log.info("coordinator.stopped")

    def _loops(
        self, store: Store, plan: Escalation, outbox: Outbox, group: asyncio.TaskGroup
    ) -> tuple[tuple[str, float, Callable[[float], Awaitable[object]]], ...]:
        """Return name, period and work of each loop; the work is given the wall time."""
        watch_s = max(MIN_WATCH_PERIOD_S, WATCH_PERIOD_S / self._speed)
        started_s = self._clock.wall_s()

        async def watch(now_s: float) -> None:
            await judge_services(store, speed=self._speed, now_s=now_s)
            await judge_nodes(store, listening_since_s=started_s, now_s=now_s)
            await close_calm(store, speed=self._speed, now_s=now_s)

        async def timers(now_s: float) -> None:
            # A coordinator whose timers do not turn is dead, whatever else answers.
            self._notifier.watchdog()
            await fire_due(store, plan, now_s)

        async def deliver(_: float) -> None:
            await outbox.start_due(group)

        async def forget(now_s: float) -> None:
            await forget_old_readings(store, speed=self._speed, now_s=now_s)

        return (
            ("timers", TIMER_PERIOD_S, timers),
            ("outbox", TIMER_PERIOD_S, deliver),
            ("watch", watch_s, watch),
            ("forget", FORGET_PERIOD_S, forget),
        )

    async def _repeat(
        self, name: str, period_s: float, work: Callable[[float], Awaitable[object]]
    ) -> None:
        while True:
            pause_s = period_s
            try:
                await work(self._clock.wall_s())
            except SQLAlchemyError as error:
                reason = str(error).partition("\n")[0]
                log.warning("store.failed", loop=name, reason=reason)
                pause_s = FAILED_PAUSE_S
            await self._clock.sleep_until(self._clock.mono_s() + pause_s)

    def _web_app(self, store: Store, plan: Escalation) -> Starlette:
        return create_app(
            store, self._clock, roster=plan.roster, policy=plan.policy, speed=self._speed
        )

    def _bind(self, web: WebServer) -> str:
        address = self._config.http.address
        try:
            return web.bind(*configuration.host_port(address, "http.address"))
        except OSError as error:
            raise StartError(f"http.address: {address}: {error.strerror}") from error

    async def _start(self, ingest: IngestServer) -> str:
        address = self._config.grpc.address
        try:
            return await ingest.start(address)
        except OSError as error:
            raise StartError(f"grpc.address: {address}: cannot be used; taken?") from error

    async def _outbox(self, stack: AsyncExitStack, store: Store, http: str) -> Outbox:
        channels = {c.name: notifiers.create(c, self._clock) for c in self._config.notifiers}
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        base_url = (self._config.http.url or f"http://{http}").rstrip("/")
        return Outbox(store, channels, self._clock, base_url)

    def _write_addresses(self, addresses: dict[str, str]) -> None:
        """Say where we really listen, for whoever configured port 0."""
        path = Path(self._config.state.directory) / ADDRESSES_FILE
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(addresses) + b"\n")
        fresh.replace(path)
