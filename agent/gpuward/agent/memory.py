"""Remember what is open over a restart of the agent.

A report lists everything that is open, so an agent that had forgotten would report its findings as
cleared and raise them anew some seconds later: incidents would close and open for no reason but an
upgrade.  Monotonic times are those of one boot; after a reboot nothing is remembered, because what
matters then is found again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import structlog

from gpuward.agent.disk_thread import DiskBusyError
from gpuward.agent.hysteresis import Condition, State
from gpuward.agent.kinds import KINDS

if TYPE_CHECKING:
    from gpuward.agent.judge import Judge
    from gpuward.agent.spool import Spool

log = structlog.get_logger()

WRITTEN_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is kept: the raised conditions of one boot."""

    boot_id: str
    conditions: tuple[Condition, ...]


def encode(state: State, boot_id: str) -> bytes:
    """Return what is open in ``state``, to be kept."""
    raised = tuple(c for c in state.conditions.values() if c.opened is not None)
    return msgspec.json.encode(Remembered(boot_id, raised))


def decode(data: bytes, *, boot_id: str, instance: str, now_s: float) -> State:
    """Return the state to begin with; it is empty when ``data`` cannot be used any more."""
    if not data:
        return State(instance)
    try:
        remembered = msgspec.json.decode(data, type=Remembered)
    except msgspec.MsgspecError as error:
        # Written by another version, or damaged: what is open is found again.
        log.warning("findings.forgotten", reason=str(error))
        return State(instance)
    if remembered.boot_id != boot_id:
        return State(instance)
    conditions = {
        condition.finding.dedup_key: replace(condition, tick_s=now_s, gone_since_s=None)
        for condition in remembered.conditions
        if condition.finding.kind in KINDS
    }
    return State(instance, conditions=conditions)


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
                data = encode(self._judge.state, self._judge.snapshot.boot_id)
                async with asyncio.timeout(WRITTEN_WITHIN_S):
                    await self._spool.remember(data)
            except (TimeoutError, DiskBusyError, UnicodeEncodeError) as error:
                # The next change is another chance; until then a restart forgets this one.
                log.warning("findings.not_saved", reason=str(error) or "timed out")
