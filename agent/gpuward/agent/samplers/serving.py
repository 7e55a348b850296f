"""Find out which service a GPU process serves: whose listening socket is the engine's URL?

A finding about a process is news for the people of a service only when it says which.  The process
that holds the GPU is seldom the one that listens: vLLM's engine core is a child of its API server,
a worker a grandchild; elsewhere router and workers are children of one launcher.  So the socket is
looked for in the process and its ancestors; for an engine that nobody was found for in that way,
among the children of the ancestors, and last in the unit or container.

What is found holds for the life of the process, so a settled node costs nothing.  The rest is
looked at again: after ten seconds, then ever less often, down to once a minute, and anew from the
start as soon as an engine begins to answer, which is when its socket is there to be found.  32
processes take 12 ms, in pieces of at most 3 ms (measured; see ``process_tree``).  Keys of processes
stay as they are: an engine listens long after its process took the GPU, too late for a name that
must not change.  What the engine's page says of its KV cache is told of the process that holds it:
there it explains what bytes are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.model import Batch, Process, Sample
from gpuward.agent.process_identity import stat_of
from gpuward.agent.samplers.serving_search import Search, targets_of
from gpuward.agent.series_key import series_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from gpuward.agent.engine_config import EngineConfig
    from gpuward.agent.engines.reading import Reading

LOOK_AGAIN_S = 10.0
LOOK_AGAIN_AT_MOST_S = 60.0
# Bound of one turn.
PROCESSES = 64
# Who serves what changes at a start only, and so does a KV cache; its usage is for advice, not for
# judging.  Until there is a process, there may be one at any moment.
PERIOD_S = 5.0
FIRST_PERIOD_S = 1.0
PAGE_FRESH_S = 10.0

# A pid and its start: a pid alone comes back.
Id = tuple[int, int]


@dataclass(slots=True)
class _Known:
    """What was found out about a process."""

    # What its command line said at first sight; it knows better than a page.
    engine: str
    model: str
    looked_s: float = float("-inf")
    # How long it was left alone after the look before; doubled at each look.
    pause_s: float = LOOK_AGAIN_S / 2
    serves: EngineConfig | None = None
    # Found by descent, which does not change; neighbours come and go.
    is_settled: bool = False
    # The sockets of engines that could have been found by the look before.
    wanted: frozenset[int] = frozenset()


class ServingSampler:
    """Says of the processes that others list which service they serve, and of its KV cache.

    ``engines``, ``processes``: those known now; ``reading_of``: when an engine's page was read
    last, and what it said.
    """

    name = "serving"

    def __init__(
        self,
        engines: Callable[[], Sequence[EngineConfig]],
        *,
        proc_root: Path,
        cgroup_root: Path,
        processes: Callable[[], Sequence[Process]],
        reading_of: Callable[[EngineConfig], tuple[float, Reading] | None],
    ) -> None:
        self._engines = engines
        self._proc_root = proc_root
        self._cgroup_root = cgroup_root
        self._processes = processes
        self._reading_of = reading_of
        self._known: dict[Id, _Known] = {}
        # Engines whose page was read just now.
        self._answering: set[str] = set()
        self.period_s = FIRST_PERIOD_S

    async def sample(self, now_s: float) -> Batch:
        if not self._engines():
            return Batch()
        # What has neither is an echo of what we said of a process that is gone.
        listed = [p for p in self._processes() if p.start_ticks and (p.gpus or p.tapped)]
        self._known = {
            (p.pid, p.start_ticks): self._known.get((p.pid, p.start_ticks))
            or _Known(p.engine, p.model)
            for p in listed
        }
        self._hurry_if_one_began_to_answer(now_s)
        await self._look(now_s)
        samples = tuple(self._kv_caches(listed, now_s))
        self.period_s = PERIOD_S if listed else FIRST_PERIOD_S
        return Batch(samples=samples, processes=tuple(self._said(listed)))

    def _said(self, listed: Iterable[Process]) -> Iterator[Process]:
        for process in listed:
            known = self._known[process.pid, process.start_ticks]
            if known.serves is not None:
                _, reading = self._reading_of(known.serves) or (0.0, None)
                yield Process(
                    key=process.key,
                    pid=process.pid,
                    start_ticks=process.start_ticks,
                    engine=known.engine or (reading.kind if reading else ""),
                    model=known.model or (reading.model if reading else ""),
                    service=known.serves.service,
                    endpoint=known.serves.instance,
                )

    def _kv_caches(self, listed: Iterable[Process], now_s: float) -> Iterator[Sample]:
        """Yield the figures of the cache behind each name and GPU: every rank has one as large."""
        serving = {
            (process.key, gpu): (known.serves, process.rank)
            for process in listed
            if (known := self._known[process.pid, process.start_ticks]).serves is not None
            for gpu in process.gpus
        }
        for (key, gpu), (engine, rank) in serving.items():
            at_s, reading = self._reading_of(engine) or (0.0, None)
            if reading is None or now_s - at_s > PAGE_FRESH_S:
                continue
            for signal, value in _figures(reading, rank):
                yield Sample(series_key(signal, gpu, key), now_s, value)

    def _hurry_if_one_began_to_answer(self, now_s: float) -> None:
        answering = {
            engine.instance
            for engine in self._engines()
            if now_s - (self._reading_of(engine) or (float("-inf"),))[0] <= PAGE_FRESH_S
        }
        if not answering <= self._answering:
            for known in self._known.values():
                known.pause_s = LOOK_AGAIN_S / 2
        self._answering = answering

    async def _look(self, now_s: float) -> None:
        due = self._due(now_s)
        if not due:
            return
        targets = await targets_of(self._engines())
        search = Search(targets, proc_root=self._proc_root, cgroup_root=self._cgroup_root)
        unsettled = []
        for (pid, start_ticks), known in due:
            known.looked_s = now_s
            known.pause_s = min(known.pause_s * 2, LOOK_AGAIN_AT_MOST_S)
            is_last = known.pause_s == LOOK_AGAIN_AT_MOST_S
            before, known.wanted = known.wanted, search.wanted_near(pid)
            if known.serves is None and known.wanted <= before and not is_last:
                # Whoever holds these sockets was there before, and is no relation.
                continue
            stat = stat_of(pid, self._proc_root)
            if stat is None or stat.start_ticks != start_ticks:
                continue
            known.serves = await search.by_descent(pid)
            known.is_settled = known.serves is not None
            if not known.is_settled:
                unsettled.append((pid, known))
        explained = [known.serves for known in self._known.values() if known.is_settled]
        for pid, known in unsettled:
            found = await search.by_neighbours(pid)
            known.serves = None if found in explained else found

    def _due(self, now_s: float) -> list[tuple[Id, _Known]]:
        """Return the processes to look at now, those that have waited longest first."""
        due = [
            (who, known)
            for who, known in self._known.items()
            if not known.is_settled and now_s - known.looked_s >= known.pause_s
        ]
        due.sort(key=lambda one: one[1].looked_s)
        return due[:PROCESSES]


def _figures(reading: Reading, rank: str) -> Iterator[tuple[str, float]]:
    cache = reading.kv_cache
    if cache is None:
        return
    yield "process_kv_cache_blocks", float(cache.blocks)
    figures = (
        ("process_kv_cache_tokens", cache.tokens),
        ("process_kv_cache_bytes", cache.bytes),
        ("process_kv_cache_usage_ratio", cache.used_by(rank)),
        ("process_gpu_memory_utilization_limit_ratio", cache.gpu_memory_utilization),
    )
    yield from ((signal, float(value)) for signal, value in figures if value is not None)
    running = reading.figures.get("requests_running")
    if cache.usage_ratio and running:
        used = cache.usage_ratio * cache.blocks * cache.ranks
        yield "process_kv_cache_request_blocks", used / running
