"""Find engines that nobody configured: whose process is on a GPU and whose page can be read.

A process that runs a known engine's command line, that listens on the port of its page
(``engine_port``) where it can be reached (``engine_reach``), and shows a page of that engine there,
is watched as a service of its model's name.  All conditions must hold: nothing is guessed, no other
port is ever spoken to, only GET of the page is sent, and never a key; a server that wants one is
left alone, as is one whose certificate is not trusted unless that was allowed, and every engine
that is configured.  A container's port may be published
under the same number on the host: one that is configured there is the container's.  What was
refused is tried again ever less often.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address
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
from gpuward.agent.samplers.engine_reach import arrives, container_addresses, own_addresses
from gpuward.agent.samplers.serving_search import targets_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from ipaddress import IPv6Address
    from pathlib import Path

    from gpuward.agent.engine_config import Kind
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


_NONE: frozenset[IPv4Address | IPv6Address] = frozenset()


@dataclass(slots=True)
class _Refused:
    """An address that showed no page; ``pause_s`` is doubled each time."""

    until_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An engine by each address that may lead to it."""

    engines: tuple[EngineConfig, ...]
    # A process of the network namespace that it is in; 0 when that is ours.
    pid: int

    @property
    def name(self) -> tuple[str, int]:
        """What tells it from others: containers of two networks may have one address."""
        return self.engines[0].url, self.pid


class EngineDiscovery:
    """``configured``: engines to leave alone; ``processes``: those known now."""

    def __init__(
        self,
        configured: Sequence[EngineConfig],
        *,
        proc_root: Path,
        processes: Callable[[], Sequence[Process]],
        verify_certificates: bool = True,
    ) -> None:
        self._configured = tuple(configured)
        self._proc_root = proc_root
        self._processes = processes
        self._verify_certificates = verify_certificates
        self._found: dict[str, EngineConfig] = {}
        self._seen_s: dict[str, float] = {}
        self._refused: dict[tuple[str, int], _Refused] = {}
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
        untried = []
        for candidate in candidates:
            found = [one.url for one in candidate.engines if one.url in self._found]
            self._seen_s |= dict.fromkeys(found, now_s)
            refused = self._refused.get(candidate.name)
            if not found and (refused is None or now_s >= refused.until_s):
                untried.append(candidate)
        room = min(TRIALS, ENGINES - len(self._found))
        # All at once: one that accepts and says nothing holds up nobody for longer than it may.
        async with asyncio.TaskGroup() as group:
            for candidate in untried[:room]:
                group.create_task(self._try(candidate, now_s))
        for url in [url for url, at_s in self._seen_s.items() if now_s - at_s > KEPT_S]:
            log.info("engine.gone", engine=url, service=self._found[url].service)
            del self._found[url], self._seen_s[url]
        names = {candidate.name for candidate in candidates}
        self._refused = {name: one for name, one in self._refused.items() if name in names}

    async def _try(self, candidate: _Candidate, now_s: float) -> None:
        engine = await self._reached(candidate)
        if engine is None:
            self._refuse(candidate, "no connection to it from the agent arrives there", now_s)
            return
        page = EnginePage(engine)
        try:
            await page.read()
        except (HttpError, ParseError) as error:
            self._refuse(candidate, str(error), now_s)
        else:
            log.info("engine.found", engine=engine.url, service=engine.service, kind=engine.kind)
            self._found[engine.url] = engine
            self._seen_s[engine.url] = now_s
            self._refused.pop(candidate.name, None)
        finally:
            page.close()

    def _refuse(self, candidate: _Candidate, reason: str, now_s: float) -> None:
        before = self._refused.get(candidate.name)
        pause_s = min(before.pause_s * 2, AGAIN_AFTER_AT_MOST_S) if before else AGAIN_AFTER_S
        self._refused[candidate.name] = _Refused(now_s + pause_s, pause_s)
        if before is None:
            log.info("engine.not_readable", engine=candidate.name[0], reason=reason)

    async def _reached(self, candidate: _Candidate) -> EngineConfig | None:
        """Return the engine by the first of its addresses that leads to it."""
        if not candidate.pid:
            return candidate.engines[0]
        for target in await targets_of(candidate.engines):
            if await arrives(candidate.pid, target.address, target.port, self._proc_root):
                return target.engine
        return None

    async def _candidates(self, listed: Sequence[Process]) -> list[_Candidate]:
        """Return each engine whose process listens where it may be reached, once."""
        ours = network_namespace("self", self._proc_root)
        near: dict[str, list[Process]] = {}
        for process in listed:
            near.setdefault(network_namespace(process.pid, self._proc_root), []).append(process)
        near.pop("", None)
        if not near or not ours:
            return []
        targets = await targets_of(self._configured)
        # A node of many pods has a long table of routes: read only for who needs it.
        host = addresses_of("self", self._proc_root) if targets or {*near} != {ours} else _NONE
        found: dict[tuple[str, int], _Candidate] = {}
        for namespace, processes in near.items():
            pid = processes[0].pid
            inside = None if namespace == ours else addresses_of(pid, self._proc_root) - host
            taken = {
                target.port
                for target in targets
                if target.address.is_loopback or target.address in host | (inside or _NONE)
            }
            free = [process for process in processes if process.port not in taken]
            async for engines in self._listening(free, inside):
                candidate = _Candidate(engines, 0 if inside is None else pid)
                found.setdefault(candidate.name, candidate)
        return list(found.values())

    async def _listening(
        self,
        processes: Sequence[Process],
        inside: frozenset[IPv4Address | IPv6Address] | None,
    ) -> AsyncIterator[tuple[EngineConfig, ...]]:
        """Yield the engine of each process by its addresses.

        ``inside``: what the network namespace of the ``processes`` has, when it is not ours.
        """
        if not processes:
            return
        listeners = listeners_of(processes[0].pid, self._proc_root)
        for process in processes:
            # The event loop has its turn before each process, whose files may be many.
            await asyncio.sleep(0)
            port = process.port
            if inside is None:
                addresses = own_addresses(listeners, port)
            else:
                addresses = container_addresses(listeners, port, inside)
            engines = tuple(self._engine_of(process, address) for address in addresses)
            inodes = {one for it in addresses for one in inodes_of(listeners, it, port)}
            # Who holds the socket of an engine that is watched was found out before.
            is_known = any(engine.url in self._found for engine in engines)
            if engines and (is_known or self._serves(process, frozenset(inodes))):
                yield engines

    def _serves(self, process: Process, inodes: frozenset[int]) -> bool:
        """Return whether ``process`` or an ancestor holds one of the sockets."""
        return any(
            inodes & held
            for pid in lineage(process.pid, self._proc_root)
            for held in sockets_of(pid, self._proc_root)
        )

    def _engine_of(self, process: Process, address: IPv4Address | IPv6Address) -> EngineConfig:
        host = str(address) if isinstance(address, IPv4Address) else f"[{address}]"
        return EngineConfig(
            service=process.model or process.engine,
            url=f"{'https' if process.is_tls else 'http'}://{host}:{process.port}",
            kind=KINDS[process.engine],
            verify_certificate=self._verify_certificates,
        )
