"""Find engines that nobody configured: whose process is on a GPU and whose page can be read.

A process that runs a known engine's command line, in our own network namespace, that listens on the
port of its page (``engine_port``), and shows a page of that engine there, is watched as a service
of its model's name.  All conditions must hold: nothing is guessed, no other port is ever spoken to,
only GET of the page is sent, and never a key; a server that wants one, or TLS, is left alone, as is
every engine that is configured.  What was refused is tried again ever less often.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.http_get import HttpError
from gpuward.agent.listeners import inodes_of
from gpuward.agent.openmetrics import ParseError
from gpuward.agent.process_tree import (
    addresses_of,
    lineage,
    listeners_of,
    network_namespace,
    sockets_of,
)
from gpuward.agent.samplers.engine_page import EnginePage
from gpuward.agent.samplers.serving_search import targets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from gpuward.agent.engine_config import Kind
    from gpuward.agent.listeners import Listener
    from gpuward.agent.model import Process

log = structlog.get_logger()

LOOK_EVERY_S = 10.0
AGAIN_AFTER_S = 60.0
AGAIN_AFTER_AT_MOST_S = 900.0
# How long an engine is kept after its last process was seen.
KEPT_S = 60.0
# Bounds of a look, and of what is watched without having been asked to.
PROCESSES = 64
ENGINES = 16
TRIALS = 4
# Names of engines, as identities of processes have them, are kinds.
KINDS: dict[str, Kind] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "tgi": "tgi",
    "trtllm": "trtllm",
    "triton": "triton",
    "llama.cpp": "llama.cpp",
}
LOOPBACK = IPv4Address("127.0.0.1")
LOOPBACK_IPV6 = IPv6Address("::1")


@dataclass(slots=True)
class _Refused:
    """An address that showed no page; ``pause_s`` is doubled each time."""

    until_s: float
    pause_s: float


class EngineDiscovery:
    """``configured``: engines to leave alone; ``processes``: those known now."""

    def __init__(
        self,
        configured: Sequence[EngineConfig],
        *,
        proc_root: Path,
        processes: Callable[[], Sequence[Process]],
    ) -> None:
        self._configured = tuple(configured)
        self._proc_root = proc_root
        self._processes = processes
        self._found: dict[str, EngineConfig] = {}
        self._seen_s: dict[str, float] = {}
        self._refused: dict[str, _Refused] = {}
        self._looked_s = float("-inf")

    async def engines(self, now_s: float) -> tuple[EngineConfig, ...]:
        """Return the engines that were found and are still there."""
        listed = [one for one in self._processes() if one.engine in KINDS and one.port]
        # The first process that is listed is looked at at once.
        if (listed or self._found) and now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            await self._look(listed[:PROCESSES], now_s)
        return tuple(self._found.values())

    async def _look(self, listed: Sequence[Process], now_s: float) -> None:
        candidates = await self._candidates(listed)
        for engine in candidates:
            if engine.url in self._found:
                self._seen_s[engine.url] = now_s
        untried = [engine for engine in candidates if self._is_worth_a_try(engine.url, now_s)]
        room = min(TRIALS, ENGINES - len(self._found))
        # All at once: one that accepts and says nothing holds up nobody for longer than it may.
        async with asyncio.TaskGroup() as group:
            for engine in untried[:room]:
                group.create_task(self._try(engine, now_s))
        for url in [url for url, at_s in self._seen_s.items() if now_s - at_s > KEPT_S]:
            log.info("engine.gone", engine=url, service=self._found[url].service)
            del self._found[url], self._seen_s[url]
        urls = {engine.url for engine in candidates}
        self._refused = {url: one for url, one in self._refused.items() if url in urls}

    def _is_worth_a_try(self, url: str, now_s: float) -> bool:
        refused = self._refused.get(url)
        return url not in self._found and (refused is None or now_s >= refused.until_s)

    async def _try(self, engine: EngineConfig, now_s: float) -> None:
        page = EnginePage(engine)
        try:
            await page.read()
        except (HttpError, ParseError) as error:
            before = self._refused.get(engine.url)
            pause_s = min(before.pause_s * 2, AGAIN_AFTER_AT_MOST_S) if before else AGAIN_AFTER_S
            self._refused[engine.url] = _Refused(now_s + pause_s, pause_s)
            if before is None:
                log.info("engine.not_readable", engine=engine.url, reason=str(error))
        else:
            log.info("engine.found", engine=engine.url, service=engine.service, kind=engine.kind)
            self._found[engine.url] = engine
            self._seen_s[engine.url] = now_s
            self._refused.pop(engine.url, None)
        finally:
            page.close()

    async def _candidates(self, listed: Sequence[Process]) -> list[EngineConfig]:
        """Return an engine for each address that a known engine's process listens on."""
        ours = network_namespace("self", self._proc_root)
        near = [one for one in listed if network_namespace(one.pid, self._proc_root) == ours != ""]
        if not near:
            return []
        listeners = listeners_of(near[0].pid, self._proc_root)
        taken = await self._taken(near[0].pid)
        found: dict[str, EngineConfig] = {}
        for process in near:
            # The event loop has its turn before each process, whose files may be many.
            await asyncio.sleep(0)
            for address in _addresses(listeners, process.port):
                engine = _engine_of(process, address)
                if engine.url in found or process.port in taken:
                    continue
                inodes = inodes_of(listeners, address, process.port)
                # Who holds the socket of an engine that is watched was found out before.
                if engine.url in self._found or self._serves(process, inodes):
                    found[engine.url] = engine
        return list(found.values())

    async def _taken(self, pid: int) -> frozenset[int]:
        """Return the ports of this host, whose namespace ``pid`` is in, that are configured."""
        own = addresses_of(pid, self._proc_root) if self._configured else frozenset()
        return frozenset(
            target.port
            for target in await targets_of(self._configured)
            if target.address.is_loopback or target.address in own
        )

    def _serves(self, process: Process, inodes: frozenset[int]) -> bool:
        """Return whether ``process`` or an ancestor holds one of the sockets."""
        return any(
            inodes & held
            for pid in lineage(process.pid, self._proc_root)
            for held in sockets_of(pid, self._proc_root)
        )


def _addresses(listeners: Iterable[Listener], port: int) -> list[IPv4Address | IPv6Address]:
    """Return the addresses under which ``port`` can be reached from here, each once."""
    bound = (one.address for one in listeners if one.port == port)
    return list(dict.fromkeys(_reachable(address) for address in bound))


def _reachable(bound: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if not bound.is_unspecified:
        return bound
    return LOOPBACK if isinstance(bound, IPv4Address) else LOOPBACK_IPV6


def _engine_of(process: Process, address: IPv4Address | IPv6Address) -> EngineConfig:
    host = str(address) if isinstance(address, IPv4Address) else f"[{address}]"
    return EngineConfig(
        service=process.model or process.engine,
        url=f"http://{host}:{process.port}",
        kind=KINDS[process.engine],
    )
