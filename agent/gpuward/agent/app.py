"""Wire the agent together: the only module that knows every other.

One task group holds all loops, one exit stack closes all parts in the opposite order of their
opening, each within a bound.  On SIGTERM the node first says goodbye to the coordinator, and then
every loop is cancelled: nothing else has anything to finish.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from gpuward.agent import memory, state_directory
from gpuward.agent.closing import close_within
from gpuward.agent.component import Components
from gpuward.agent.config import host_port
from gpuward.agent.drill_service import DrillService
from gpuward.agent.drills import Drills
from gpuward.agent.event_keeper import EventKeeper
from gpuward.agent.exporter import Exporter
from gpuward.agent.history_mirror import HistoryMirror
from gpuward.agent.judge import Judge
from gpuward.agent.kmsg_memory import KmsgMemory
from gpuward.agent.maintenance_keeper import MAINTENANCE_FILE, MaintenanceKeeper
from gpuward.agent.memory_map_request import MemoryMapRequests
from gpuward.agent.probe_request import ProbeRequests
from gpuward.agent.query import Query, QueryServer
from gpuward.agent.recording_service import RecordingService
from gpuward.agent.release import Release
from gpuward.agent.reporter import Reporter
from gpuward.agent.sampler_table import build_samplers
from gpuward.agent.samplers.kmsg import KmsgSampler
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.agent.samplers.probe import ProbeSampler
from gpuward.agent.samplers.tap import TapSampler
from gpuward.agent.sampling import Sampling
from gpuward.agent.self_metric_table import (
    figures_of_judge,
    figures_of_reports,
    figures_of_sampling,
)
from gpuward.agent.spool import Spool
from gpuward.agent.state_directory import StateError
from gpuward.agent.state_watch import StateWatch
from gpuward.agent.watch import Watchers
from gpuward.daemon.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.agent.config import AgentConfig
    from gpuward.agent.model import Snapshot
    from gpuward.agent.sampling import Sampler
    from gpuward.agent.spool_file import Item
    from gpuward.daemon.clock import Clock
    from gpuward.daemon.notify import Notifier

log = structlog.get_logger()

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SPOOL_FILE = "spool.db"
HISTORY_FILE = "history.rows"
ADDRESSES_FILE = "addresses.json"
GOODBYE_WITHIN_S = 5.0
# A second's samples come and go without a collection, which finds next to nothing among them.
YOUNG_OBJECTS = 20_000


class StartError(Exception):
    """The agent cannot start here; the message is one line that says what to mend."""


class App:
    """The agent of one node."""

    def __init__(self, config: AgentConfig, *, clock: Clock, notifier: Notifier) -> None:
        self._config = config
        self._clock = clock
        self._notifier = notifier
        self._instance = secrets.token_hex(8)
        self._boot_id = BOOT_ID.read_text().strip()
        self._components = Components()
        self._drills = Drills(clock, instance=self._instance, is_allowed=config.drills.allowed)
        self._judge = Judge(
            node=config.node_name,
            boot_id=self._boot_id,
            instance=self._instance,
            clock=clock,
            components=self._components,
            notifier=notifier,
            xids=config.xid.catalogue(),
            drills=self._drills.open_findings,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop``; raises ``StartError`` when a port or a folder cannot be had."""
        async with AsyncExitStack() as parts:
            spool = self._open_spool(parts)
            close_within(parts, "spool", spool.close)
            mirror = HistoryMirror(
                self._judge.history,
                Path(self._config.state.directory, HISTORY_FILE),
                clock=self._clock,
                components=self._components,
            )
            close_within(parts, "history", mirror.close)
            folder = Path(self._config.state.directory)
            state = StateWatch((folder, folder / SPOOL_FILE), self._clock, self._components)
            close_within(parts, "state watch", state.close)
            ended = self._remember(spool)
            maintenance = MaintenanceKeeper(
                Path(self._config.state.directory, MAINTENANCE_FILE), self._clock
            )
            samplers = build_samplers(
                self._config,
                judge=self._judge,
                clock=self._clock,
                boot_id=self._boot_id,
                maintenance=maintenance,
            )
            query_address = await self._start_query(parts, samplers, maintenance)
            kmsg = next(each for each in samplers if isinstance(each, KmsgSampler))
            kmsg.remember_in(KmsgMemory(Path(self._config.state.directory), self._boot_id))
            keeper = EventKeeper(self._judge, spool)
            await keeper.keep(ended)
            reporter = self._reporter(spool, query_address)
            for sampler in samplers:
                if isinstance(sampler, AbstractAsyncContextManager):
                    await parts.enter_async_context(sampler)
            sampling = Sampling(
                samplers, judge=self._judge, clock=self._clock, components=self._components
            )
            exporter = Exporter(
                clock=self._clock,
                snapshot=self._snapshot,
                is_started=sampling.started.is_set,
                self_metrics=(
                    *figures_of_judge(self._judge, self._components),
                    *figures_of_sampling(sampling, self._clock),
                    *figures_of_reports(self._judge, spool, keeper, reporter),
                ),
                collectors=(kmsg.totals,),
                child_pid=lambda: _nvml_child_pid(samplers),
            )
            http_address = await self._start_http(parts, exporter)
            addresses = {"http": http_address, "grpc": query_address}
            async with asyncio.TaskGroup() as group:
                loops = [
                    group.create_task(self._judge.run(), name="judge"),
                    group.create_task(keeper.run(), name="event keeper"),
                    group.create_task(mirror.run(), name="history"),
                    group.create_task(state.run(), name="state"),
                    group.create_task(memory.Memory(self._judge, spool).run(), name="memory"),
                    group.create_task(sampling.run(), name="sampling"),
                    group.create_task(self._announce(sampling, addresses), name="announce"),
                ]
                await self._report_until(stop, reporter)
                for loop in loops:
                    loop.cancel()

    def _remember(self, spool: Spool) -> list[Item]:
        """Go on with what was open when the agent ended; return what a reboot ended unheard."""
        known = memory.decode(spool.remembered)
        boot_id, node = self._boot_id, self._config.node_name
        self._judge.state = memory.state_of(
            known, boot_id=boot_id, instance=self._instance, now_s=self._clock.mono_s()
        )
        if not self._config.coordinator.address:
            return []
        self._judge.heard = memory.heard_of(known, boot_id)
        return memory.ended_unheard(known, boot_id=boot_id, node=node)

    def _snapshot(self) -> Snapshot:
        return self._judge.snapshot

    async def _report_until(self, stop: asyncio.Event, reporter: Reporter | None) -> None:
        """Return once ``stop`` is set and the coordinator was told, or could not be in time."""
        async with asyncio.TaskGroup() as group:
            reporting = None
            if reporter is not None:
                reporting = group.create_task(reporter.run(stop), name="reporter")
            await stop.wait()
            self._notifier.stopping()
            if reporting is not None:
                await asyncio.wait((reporting,), timeout=GOODBYE_WITHIN_S)
                reporting.cancel()

    async def _announce(self, sampling: Sampling, addresses: dict[str, str]) -> None:
        """Say that the agent is ready, to the supervisor and to whoever reads the state folder."""
        await sampling.started.wait()
        path = Path(self._config.state.directory, ADDRESSES_FILE)
        unfinished = path.with_suffix(".tmp")
        try:
            unfinished.write_bytes(msgspec.json.encode(addresses))
            unfinished.replace(path)
        except OSError as error:
            log.warning("addresses.not_written", path=str(path), reason=error.strerror)
        # What start-up made lives as long as the process: no collection need walk it again, and
        # none holds up a scrape for the ten milliseconds that that takes.
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        self._notifier.ready(f"serving http://{addresses['http']}/metrics")
        log.info("agent.started", node=self._config.node_name, **addresses)

    def _open_spool(self, parts: AsyncExitStack) -> Spool:
        directory = Path(self._config.state.directory)
        try:
            parts.enter_context(state_directory.owned(directory))
        except StateError as error:
            raise _unusable(directory, str(error)) from error
        except OSError as error:
            raise _unusable(directory, _words(error)) from error
        # Those of a process that was killed; nobody shall take them for ours.
        (directory / ADDRESSES_FILE).unlink(missing_ok=True)
        return Spool(directory / SPOOL_FILE, wall_s=self._clock.wall_s())

    async def _start_query(
        self, parts: AsyncExitStack, samplers: Sequence[Sampler], maintenance: MaintenanceKeeper
    ) -> str:
        tap = next(sampler for sampler in samplers if isinstance(sampler, TapSampler))
        nvml = next(sampler for sampler in samplers if isinstance(sampler, NvmlSampler))
        probe = next((it for it in samplers if isinstance(it, ProbeSampler)), None)
        watchers = Watchers(self._snapshot, self._judge.changes, self._clock)
        query = Query(
            snapshot=self._snapshot,
            history=self._judge.history,
            readings=self._judge.readings,
            memory_maps=MemoryMapRequests(tap.writer_of, self._clock),
            release=Release(maintenance, nvml, probe),
            probes=ProbeRequests(probe, self._clock),
            watchers=watchers,
            components=self._components,
        )
        server = QueryServer(query, watchers)
        server.offer_drills(DrillService(self._drills, self._snapshot))
        recorders, window = self._judge.recorders, self._judge.readings.window
        server.offer_recordings(RecordingService(recorders, window, self._clock, self._config))
        address = self._config.grpc.address
        try:
            bound = await server.start(address)
        except OSError as error:
            raise StartError(
                f"[grpc] address {address}: cannot listen there: stop what does, or choose another"
            ) from error
        close_within(parts, "query server", server.close)
        return bound

    async def _start_http(self, parts: AsyncExitStack, exporter: Exporter) -> str:
        host, port = host_port(self._config.http.address)
        try:
            server = exporter.server(self._config.http.web_config)
            bound = await server.start(host, port)
        except ConfigError as error:
            raise StartError(f"[http] web_config: {error}") from error
        except OSError as error:
            raise StartError(
                f"[http] address {self._config.http.address}: {_words(error)}:"
                " stop what listens there, or choose another"
            ) from error
        close_within(parts, "http server", server.close)
        return f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    def _reporter(self, spool: Spool, query_address: str) -> Reporter | None:
        if not self._config.coordinator.address:
            return None
        return Reporter(
            self._config.coordinator.address,
            snapshot=self._snapshot,
            changed=self._judge.changed,
            spool=spool,
            was_heard=self._judge.was_heard,
            clock=self._clock,
            instance=self._instance,
            query_address=query_address,
            interval_s=self._config.coordinator.report_interval_s,
            jitter=random.Random(self._instance),  # noqa: S311 - spreads load, keeps no secret
        )


def _nvml_child_pid(samplers: Sequence[Sampler]) -> int | None:
    nvml = next((sampler for sampler in samplers if isinstance(sampler, NvmlSampler)), None)
    return None if nvml is None else nvml.child_pid


def _words(error: OSError) -> str:
    # asyncio writes an essay of its own around the operating system's words.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def _unusable(directory: Path, reason: str) -> StartError:
    return StartError(f"[state] directory {directory}: {reason}: choose one of our own to write in")
