"""All of delivery, over the same channels: pages out, news after them, acknowledgements back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.coordinator import loops
from gpuward.coordinator.alert_looking import AlertLooking
from gpuward.coordinator.alert_telling import AlertTelling
from gpuward.coordinator.outbox import Outbox

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from gpuward.coordinator.fallback import Fallback
    from gpuward.coordinator.page import Notifier
    from gpuward.coordinator.store import Store
    from gpuward.daemon.clock import Clock


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one replica does to deliver; several may work on one database."""

    outbox: Outbox
    telling: AlertTelling
    looking: AlertLooking

    def loops(self, group: asyncio.TaskGroup) -> tuple[loops.Loop, ...]:
        """Return the loops that start all this work in ``group``."""
        return (
            loops.due("delivery", loops.TIMER_PERIOD_S, self.outbox, group),
            loops.due("telling", loops.ALERT_PERIOD_S, self.telling, group),
            loops.due("looking", loops.ALERT_PERIOD_S, self.looking, group),
        )


def create(
    store: Store,
    channels: Mapping[str, Notifier],
    clock: Clock,
    base_url: str,
    *,
    speed: float,
    fallback: Fallback,
) -> Delivery:
    """Return delivery over ``channels``, by name; links begin with ``base_url``."""
    return Delivery(
        Outbox(store, channels, clock, base_url, speed=speed, fallback=fallback),
        AlertTelling(store, channels, clock, base_url, speed=speed),
        AlertLooking(store, channels, clock),
    )
