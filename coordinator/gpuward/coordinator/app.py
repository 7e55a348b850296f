"""Wire the coordinator together: the only module that knows every other.

One exit stack closes what was opened, in the opposite order; one task group holds all loops.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from gpuward.coordinator import agents, delivery, loops, notifiers, state_directory
from gpuward.coordinator import config as configuration
from gpuward.coordinator.ingest import Ingest, IngestServer
from gpuward.coordinator.intake import Intake
from gpuward.coordinator.memory_maps import MemoryMaps
from gpuward.coordinator.migrate import DatabaseError, upgrade
from gpuward.coordinator.state_directory import StateError
from gpuward.coordinator.store import Store
from gpuward.coordinator.store_dialect import create_engine
from gpuward.coordinator.timers import Escalation
from gpuward.coordinator.web.app import create_app
from gpuward.coordinator.web_server import WebServer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from gpuward.coordinator.config_tables import CoordinatorConfig
    from gpuward.coordinator.delivery import Delivery
    from gpuward.daemon.clock import Clock
    from gpuward.daemon.notify import Notifier

log = structlog.get_logger()

# New objects between two looks for garbage: more than what waits to be written of ten thousand
# nodes, or there would be a look at all of that with each flush.
GARBAGE_EVERY = 200_000


class StartError(Exception):
    """The coordinator cannot start; the message is one line and names the cause."""


async def open_engine(config: CoordinatorConfig) -> AsyncEngine:
    """Return the database, brought to this version's schema; raises ``StartError``."""
    try:
        state_directory.make(Path(config.state.directory))
        engine = create_engine(config.database_url)
    except StateError as error:
        raise StartError(str(error)) from error
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise StartError(f"database.url: {config.database_url}: {error}") from error
    try:
        await upgrade(engine)
    except DatabaseError as error:
        await engine.dispose()
        raise StartError(str(error)) from error
    return engine


class App:
    """The coordinator as a service."""

    def __init__(self, config: CoordinatorConfig, clock: Clock, notifier: Notifier) -> None:
        self._config = config
        self._clock = clock
        self._notifier = notifier
        self._speed = config.escalation.speed
        self._directory = Path(config.state.directory)
        self._plan = Escalation(
            configuration.policy(config), configuration.roster(config), self._speed
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; raises ``StartError`` when that cannot begin."""
        async with AsyncExitStack() as stack:
            store = await self._store(stack)
            web, http = self._web(stack, store)
            sending = self._delivery(stack, store, http)
            intake = Intake(store)
            grpc = await self._ingest(stack, intake)
            state_directory.write_addresses(self._directory, {"http": http, "grpc": grpc})
            log.info("coordinator.started", http=http, grpc=grpc, speed=self._speed)
            # What start-up made stays; of what reports make next to nothing is in a circle, and the
            # sessions of thousands of nodes are much to walk for it.
            gc.freeze()
            gc.set_threshold(GARBAGE_EVERY)
            self._notifier.ready(f"people on http://{http}, agents on {grpc}")
            await self._serve(store, intake, web, sending, stop)
        log.info("coordinator.stopped")

    async def _serve(
        self, store: Store, intake: Intake, web: WebServer, sending: Delivery, stop: asyncio.Event
    ) -> None:
        started_s = self._clock.wall_s()
        memory_maps = MemoryMaps(store, agents.ask_memory_map, self._clock)
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(loops.repeat(loop, self._clock))
                for loop in (
                    loops.timers(store, self._plan, self._notifier),
                    *sending.loops(group),
                    loops.due("mapping", loops.MAPPING_PERIOD_S, memory_maps, group),
                    loops.watch(store, intake, speed=self._speed, started_s=started_s),
                    loops.forget(store, speed=self._speed),
                )
            ]
            group.create_task(web.serve())
            await stop.wait()
            self._notifier.stopping()
            for loop in running:
                loop.cancel()
            web.stop()

    async def _store(self, stack: AsyncExitStack) -> Store:
        engine = await open_engine(self._config)
        stack.push_async_callback(engine.dispose)
        try:
            stack.enter_context(state_directory.owned(self._directory))
        except StateError as error:
            raise StartError(str(error)) from error
        store = Store(engine, policy=self._plan.policy, speed=self._speed)
        await store.take_over()
        return store

    def _web(self, stack: AsyncExitStack, store: Store) -> tuple[WebServer, str]:
        application = create_app(
            store,
            self._clock,
            roster=self._plan.roster,
            policy=self._plan.policy,
            speed=self._speed,
        )
        web = WebServer(application)
        stack.callback(web.close)
        address = self._config.http.address
        try:
            return web, web.bind(*configuration.host_port(address, "http.address"))
        except OSError as error:
            raise StartError(f"http.address: {address}: {error.strerror}") from error

    def _delivery(self, stack: AsyncExitStack, store: Store, http: str) -> Delivery:
        channels = {c.name: notifiers.create(c, self._clock) for c in self._config.notifiers}
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        base_url = (self._config.http.url or f"http://{http}").rstrip("/")
        return delivery.create(
            store,
            channels,
            self._clock,
            base_url,
            speed=self._speed,
            fallback=configuration.fallback(self._config),
        )

    async def _ingest(self, stack: AsyncExitStack, intake: Intake) -> str:
        ingest = IngestServer(Ingest(intake, self._clock, speed=self._speed))
        stack.push_async_callback(ingest.close)
        address = self._config.grpc.address
        try:
            return await ingest.start(address)
        except OSError as error:
            raise StartError(f"grpc.address: {address}: cannot listen there; taken?") from error
