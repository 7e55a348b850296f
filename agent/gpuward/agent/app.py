"""Wire the agent together: the only module that knows every other.

One task group holds all loops, one exit stack closes all parts in the opposite order of their
opening, each within a bound.  On SIGTERM the node first says goodbye to the coordinator, and then
every loop is cancelled: nothing else has anything to finish.
"""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import structlog

from gpuward.agent import memory
from gpuward.agent.background_file import BackgroundFile
from gpuward.agent.closing import close_within
from gpuward.agent.component import Components
from gpuward.agent.drill_service import DrillService
from gpuward.agent.drills import Drills
from gpuward.agent.event_keeper import EventKeeper
from gpuward.agent.exporter import Exporter
from gpuward.agent.garbage import Garbage
from gpuward.agent.history_mirror import HistoryMirror
from gpuward.agent.judge import Judge
from gpuward.agent.kmsg_memory import KmsgMemory
from gpuward.agent.memory_map_request import MemoryMapRequests
from gpuward.agent.nvml_ahead import nvml_sampler
from gpuward.agent.probe_request import ProbeRequests
from gpuward.agent.query import Query, QueryServer
from gpuward.agent.recording_service import RecordingService
from gpuward.agent.release import Release
from gpuward.agent.reporter import Reporter
from gpuward.agent.sampler_table import build_samplers
from gpuward.agent.samplers.kmsg import KmsgSampler
from gpuward.agent.samplers.probe import ProbeSampler
from gpuward.agent.samplers.tap import TapSampler
from gpuward.agent.sampling import Sampling
from gpuward.agent.self_metric_table import (
    figures_of_gpus,
    figures_of_judge,
    figures_of_reports,
    figures_of_sampling,
)
from gpuward.agent.starting import ADDRESSES_FILE, SPOOL_FILE, open_spool, start_http, start_query
from gpuward.agent.state_watch import StateWatch
from gpuward.agent.watch import Watchers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.agent.config import AgentConfig
    from gpuward.agent.model import Snapshot
    from gpuward.agent.samplers.nvml import NvmlSampler
    from gpuward.agent.sampling import Sampler
    from gpuward.agent.self_metrics import SelfMetric
    from gpuward.agent.spool import Spool
    from gpuward.agent.spool_file import Item
    from gpuward.daemon.clock import Clock
    from gpuward.daemon.notify import Notifier

log = structlog.get_logger()

S = TypeVar("S")

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
HISTORY_FILE = "history.rows"
GOODBYE_WITHIN_S = 5.0
# A second's samples come and go without a collection, which finds next to nothing among them.
YOUNG_OBJECTS = 20_000


class App:
    """The agent of one node."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        clock: Clock,
        notifier: Notifier,
        nvml: NvmlSampler | None = None,
    ) -> None:
        """``nvml``: the sampler of ``config``, its child started ahead of us."""
        self._nvml = nvml_sampler(config, clock) if nvml is None else nvml
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
            # Entered first: its child runs already, and ends with us however we end.
            await parts.enter_async_context(self._nvml)
            spool = open_spool(parts, self._config.state, wall_s=self._clock.wall_s())
            mirror = self._mirror(parts)
            state = self._state_watch(parts)
            keeper = EventKeeper(self._judge, spool)
            ended = self._remember(spool)
            samplers = self._samplers()
            query_address = await self._start_query(parts, samplers)
            await keeper.keep(ended)
            reporter = self._reporter(spool, query_address)
            await self._enter(parts, samplers)
            sampling = Sampling(
                samplers, judge=self._judge, clock=self._clock, components=self._components
            )
            reports = figures_of_reports(self._judge, spool, keeper, reporter)
            exporter = self._exporter(samplers, sampling, reports)
            http_address = await start_http(parts, exporter, self._config.http)
            addresses = {"http": http_address, "grpc": query_address}
            loops = {
                "judge": self._judge.run(),
                "event keeper": keeper.run(),
                "history": mirror.run(),
                "state": state.run(),
                "memory": memory.Memory(self._judge, spool).run(),
                "sampling": sampling.run(),
                "announce": self._announce(sampling, addresses),
                "garbage": Garbage(self._clock.mono_s(), is_settled=True).collect_on(self._clock),
            }
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(loop, name=name) for name, loop in loops.items()]
                await self._report_until(stop, reporter)
                for task in tasks:
                    task.cancel()

    def _mirror(self, parts: AsyncExitStack) -> HistoryMirror:
        mirror = HistoryMirror(
            self._judge.history,
            Path(self._config.state.directory, HISTORY_FILE),
            clock=self._clock,
            components=self._components,
        )
        close_within(parts, "history", mirror.close)
        return mirror

    def _state_watch(self, parts: AsyncExitStack) -> StateWatch:
        folder = Path(self._config.state.directory)
        watch = StateWatch(folder, (folder / SPOOL_FILE,), self._clock, self._components)
        close_within(parts, "state watch", watch.close)
        return watch

    def _samplers(self) -> tuple[Sampler, ...]:
        samplers = build_samplers(
            self._config,
            judge=self._judge,
            clock=self._clock,
            boot_id=self._boot_id,
            nvml=self._nvml,
        )
        kmsg_memory = KmsgMemory(Path(self._config.state.directory), self._boot_id)
        _the(KmsgSampler, samplers).remember_in(kmsg_memory)
        return samplers

    async def _enter(self, parts: AsyncExitStack, samplers: Sequence[Sampler]) -> None:
        """Open the samplers that are to be closed, but for the one that is open."""
        for sampler in samplers:
            if isinstance(sampler, AbstractAsyncContextManager) and sampler.name != self._nvml.name:
                await parts.enter_async_context(sampler)

    def _exporter(
        self, samplers: Sequence[Sampler], sampling: Sampling, reports: Sequence[SelfMetric]
    ) -> Exporter:
        return Exporter(
            clock=self._clock,
            snapshot=self._snapshot,
            is_started=sampling.started.is_set,
            self_metrics=(
                *figures_of_judge(self._judge, self._components),
                *figures_of_gpus(self._judge, self._clock),
                *figures_of_sampling(sampling, self._clock),
                *reports,
            ),
            collectors=(_the(KmsgSampler, samplers).totals,),
            child_pid=lambda: self._nvml.child_pid,
        )

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
        BackgroundFile(path).save_and_wait(msgspec.json.encode(addresses))
        # What start-up made lives as long as the process: no collection need walk it again, and
        # none holds up a scrape for the ten milliseconds that that takes.
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        self._notifier.ready(f"serving http://{addresses['http']}/metrics")
        log.info("agent.started", node=self._config.node_name, **addresses)

    async def _start_query(self, parts: AsyncExitStack, samplers: Sequence[Sampler]) -> str:
        tap = _the(TapSampler, samplers)
        probe = next((it for it in samplers if isinstance(it, ProbeSampler)), None)
        watchers = Watchers(self._snapshot, self._judge.changes, self._clock)
        query = Query(
            snapshot=self._snapshot,
            history=self._judge.history,
            readings=self._judge.readings,
            memory_maps=MemoryMapRequests(tap.writer_of, self._clock),
            release=Release(self._nvml.maintenance, self._nvml, probe),
            probes=ProbeRequests(probe, self._clock),
            watchers=watchers,
            components=self._components,
        )
        server = QueryServer(query, watchers)
        server.offer_drills(DrillService(self._drills, self._snapshot))
        recorders, window = self._judge.recorders, self._judge.readings.window
        server.offer_recordings(RecordingService(recorders, window, self._clock, self._config))
        return await start_query(parts, server, self._config.grpc.address)

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


def _the(kind: type[S], samplers: Sequence[Sampler]) -> S:
    """Return the sampler of ``kind``, which is always there."""
    return next(sampler for sampler in samplers if isinstance(sampler, kind))
