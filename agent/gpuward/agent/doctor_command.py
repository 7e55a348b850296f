"""The work of `gpuward agent doctor`: look at the machine, judge what hides something, print."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from gpuward.agent import doctor_facts as facts
from gpuward.agent.agent_client import NoAnswerError, address_of, connected
from gpuward.agent.doctor_check import Check, Level, Machine
from gpuward.agent.doctor_checks import checks
from gpuward.agent.look import boot_id, look
from gpuward.agent.process_identity import sees_every_pid
from gpuward.agent.text_table import Tone, painted
from gpuward.agent.version import VERSION
from gpuward.daemon import log
from gpuward.daemon.clock import SystemClock
from gpuward.memory_map.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.agent.config import AgentConfig
    from gpuward.agent.model import ComponentHealth, Snapshot

PROC = Path("/proc")
_TONES = {Level.OK: Tone.GOOD, Level.WARN: Tone.WARNING, Level.FAIL: Tone.BAD}
# "fabric manager", "persistence mode".
_WHAT_WIDTH = 16


def doctor(config: AgentConfig) -> tuple[Check, ...]:
    """Return every check of this machine; takes some seconds."""
    # What the parts log about themselves is in the answer.
    log.configure(level="critical")
    seen = asyncio.run(look(config, clock=SystemClock(), boot_id=boot_id()))
    return checks(seen.snapshot, _machine(config, seen.snapshot))


def worst(found: Sequence[Check]) -> Level:
    """Return the exit status: 0 all is well, 1 something is hidden, 2 something is broken."""
    return max((check.level for check in found), default=Level.OK)


def as_text(found: Sequence[Check], *, colours: bool) -> str:
    """Return a line for each check, and one that mends it where it is not well."""
    return "\n".join(_lines(found, colours=colours))


def _lines(found: Sequence[Check], *, colours: bool) -> Iterator[str]:
    yield f"gpuward {VERSION}"
    for check in found:
        level = painted(check.level.name.ljust(4), _TONES[check.level], colours=colours)
        yield f"{level}  {check.what.ljust(_WHAT_WIDTH)}  {plain(check.found)}"
        if check.mend:
            yield f"{'':4}  {'':{_WHAT_WIDTH}}  mend: {plain(check.mend)}"


def _machine(config: AgentConfig, snapshot: Snapshot) -> Machine:
    agent = address_of(config)
    trouble, parts = _ask(agent)
    addresses = [config.http.address, config.grpc.address]
    coordinator = config.coordinator.address
    blind = [process.pid for process in snapshot.processes if not process.tapped]
    return Machine(
        capabilities=facts.capabilities(PROC),
        sees_every_pid=sees_every_pid(PROC),
        hides_processes=facts.hides_processes(PROC),
        tap_directory=config.tap.directory,
        tap_folder=facts.folder(Path(config.tap.directory)),
        state_directory=config.state.directory,
        state_free_bytes=facts.free_bytes(Path(config.state.directory)),
        clock_is_synchronised=facts.clock_is_synchronised(),
        programs=facts.program_names(PROC),
        torch={pid: facts.has_torch(PROC, pid) for pid in blind},
        agent=agent,
        agent_trouble=trouble,
        agent_parts=parts,
        taken_ports=[address for address in addresses if trouble and _is_taken(address)],
        coordinator=coordinator,
        coordinator_trouble=facts.connects(coordinator) if coordinator else "",
    )


def _ask(address: str) -> tuple[str, tuple[ComponentHealth, ...]]:
    """Return why the running agent does not answer, or what it says of its parts."""
    with connected(address) as agent:
        try:
            return "", agent.components()
        except NoAnswerError as error:
            return str(error), ()


def _is_taken(address: str) -> bool:
    return not address.startswith("unix:") and not facts.is_free(address)
