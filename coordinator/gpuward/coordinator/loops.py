"""What the coordinator does again and again, and how often.

Everything that must survive is in the database, so a loop may be cancelled at any await, and one
that could not reach the database just tries again: its work is still there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from gpuward.coordinator.calm import close_calm
from gpuward.coordinator.memory_maps import plan_maps
from gpuward.coordinator.store_failures import StoreFailures
from gpuward.coordinator.timers import fire_due
from gpuward.coordinator.watch_nodes import judge_nodes
from gpuward.coordinator.watch_services import Counts, forget_old_readings, judge_services

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from gpuward.coordinator.due_work import DueWork
    from gpuward.coordinator.intake import Intake
    from gpuward.coordinator.store import Store
    from gpuward.coordinator.timers import Escalation
    from gpuward.daemon.clock import Clock
    from gpuward.daemon.notify import Notifier

# A page leaves within a second of its decision: timers and outbox look four times a second.
TIMER_PERIOD_S = 0.25
# How often services and nodes are judged; divided by the speed, but no more often than this.
WATCH_PERIOD_S = 5.0
MIN_WATCH_PERIOD_S = 0.5
# What a channel holds is told and looked at in seconds, not at once.
ALERT_PERIOD_S = 1.0
# Somebody may look at a page and wait.
MAPPING_PERIOD_S = 1.0
FORGET_PERIOD_S = 60.0
FAILED_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Loop:
    """``work`` is given the wall time, ``period_s`` after it ended the last time."""

    name: str
    period_s: float
    work: Callable[[float], Awaitable[object]]


async def repeat(loop: Loop, clock: Clock) -> None:
    """Run ``loop`` until cancelled."""
    failures = StoreFailures(loop.name)
    while True:
        pause_s = loop.period_s
        try:
            await loop.work(clock.wall_s())
        except SQLAlchemyError as error:
            failures.note(error, clock.mono_s())
            pause_s = FAILED_PAUSE_S
        await clock.sleep_until(clock.mono_s() + pause_s)


def timers(store: Store, plan: Escalation, notifier: Notifier) -> Loop:
    """Return the loop that fires due steps, and feeds the watchdog.

    A coordinator whose timers do not turn is dead, whatever else answers.
    """

    async def work(now_s: float) -> None:
        notifier.watchdog()
        await fire_due(store, plan, now_s)

    return Loop("timers", TIMER_PERIOD_S, work)


def due(name: str, period_s: float, work: DueWork[Any], group: asyncio.TaskGroup) -> Loop:
    """Return the loop that starts ``work`` in ``group``."""

    async def start(_: float) -> None:
        await work.start_due(group)

    return Loop(name, period_s, start)


def watch(store: Store, intake: Intake, *, speed: float, started_s: float) -> Loop:
    """Return the loop that judges services and nodes, wants maps, and closes what is calm.

    What reports left unwritten comes first, so that it is judged.
    """
    counts = Counts()

    async def work(now_s: float) -> None:
        await intake.flush()
        await judge_services(store, counts, speed=speed, now_s=now_s)
        await judge_nodes(store, listening_since_s=started_s, now_s=now_s)
        await plan_maps(store, now_s)
        await close_calm(store, speed=speed, now_s=now_s)

    return Loop("watch", max(MIN_WATCH_PERIOD_S, WATCH_PERIOD_S / speed), work)


def forget(store: Store, *, speed: float) -> Loop:
    """Return the loop that drops readings that no window reaches."""

    async def work(now_s: float) -> None:
        await forget_old_readings(store, speed=speed, now_s=now_s)

    return Loop("forget", FORGET_PERIOD_S, work)
