"""Remember what is open over a restart of the agent.

A report lists everything that is open, so an agent that had forgotten would report its findings as
cleared and raise them anew some seconds later: incidents would close and open for no reason but an
upgrade.  Monotonic times are those of one boot; after a reboot nothing is remembered, because what
matters then is found again; but what nobody has heard of goes to the spool.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import structlog

from gpuward.agent import wire
from gpuward.agent.disk_thread import DiskBusyError
from gpuward.agent.heard import Heard
from gpuward.agent.hysteresis import Condition, State
from gpuward.agent.kinds import KINDS
from gpuward.agent.spool_file import Item

if TYPE_CHECKING:
    from gpuward.agent.judge import Judge
    from gpuward.agent.spool import Spool

log = structlog.get_logger()

WRITTEN_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is kept: the raised conditions of one boot, and who does not know of them."""

    boot_id: str
    conditions: tuple[Condition, ...]
    # Of these the coordinator has never heard.
    unheard: tuple[str, ...] = ()
    # wall = monotonic + offset, in that boot.
    wall_offset_s: float = 0.0


NOTHING = Remembered("", ())


def encode(state: State, boot_id: str, heard: Heard, wall_offset_s: float) -> bytes:
    """Return what is open in ``state``, to be kept."""
    raised = tuple(c for c in state.conditions.values() if c.opened is not None)
    ids = (opened.finding_id for opened in state.open_findings)
    unheard = tuple(finding_id for finding_id in ids if finding_id not in heard)
    return msgspec.json.encode(Remembered(boot_id, raised, unheard, wall_offset_s))


def decode(data: bytes) -> Remembered:
    """Return what was kept; nothing when ``data`` cannot be used any more."""
    if not data:
        return NOTHING
    try:
        return msgspec.json.decode(data, type=Remembered)
    except msgspec.MsgspecError as error:
        # Written by another version, or damaged: what is open is found again.
        log.warning("findings.forgotten", reason=str(error))
        return NOTHING


def state_of(remembered: Remembered, *, boot_id: str, instance: str, now_s: float) -> State:
    """Return the state to begin with; it is empty after a reboot."""
    if remembered.boot_id != boot_id:
        return State(instance)
    conditions = {
        condition.finding.dedup_key: replace(condition, tick_s=now_s, gone_since_s=None)
        for condition in remembered.conditions
        if condition.finding.kind in KINDS
    }
    return State(instance, conditions=conditions)


def heard_of(remembered: Remembered, boot_id: str) -> Heard:
    """Return what the coordinator knew of when the agent ended."""
    if remembered.boot_id != boot_id:
        return Heard()
    ids = (c.opened.finding_id for c in remembered.conditions if c.opened is not None)
    return Heard(finding_id for finding_id in ids if finding_id not in remembered.unheard)


def ended_unheard(remembered: Remembered, *, boot_id: str, node: str) -> list[Item]:
    """Return what was open when the node was rebooted and nobody has heard of, to be spooled."""
    if remembered.boot_id == boot_id:
        return []
    return [
        Item(
            f"{remembered.boot_id}|{c.finding.kind}|ended {c.opened.finding_id}",
            wire.spooled(c.opened, node=node, wall_offset_s=remembered.wall_offset_s),
            about=c.finding.dedup_key,
        )
        for c in remembered.conditions
        if c.opened is not None
        and c.opened.finding_id in remembered.unheard
        and c.finding.kind in KINDS
    ]


class Memory:
    """Keeps what is open in the spool's file, after each change."""

    def __init__(self, judge: Judge, spool: Spool) -> None:
        self._judge = judge
        self._spool = spool

    async def run(self) -> None:
        """Keep for ever."""
        while True:
            await self._judge.unsaved.wait()
            self._judge.unsaved.clear()
            try:
                judge = self._judge
                snapshot, heard = judge.snapshot, judge.heard or Heard()
                data = encode(judge.state, snapshot.boot_id, heard, snapshot.wall_offset_s)
                async with asyncio.timeout(WRITTEN_WITHIN_S):
                    await self._spool.remember(data)
            except (TimeoutError, DiskBusyError, UnicodeEncodeError) as error:
                # The next change is another chance; until then a restart forgets this one.
                log.warning("findings.not_saved", reason=str(error) or "timed out")
