"""Look at the providers for acknowledgements, every quarter of a minute.

Asked for from here, they also come through a firewall that lets nothing in.  One counts once: the
incident is locked, what was seen before is read again, and then both are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gpuward.coordinator import events as e
from gpuward.coordinator import store_alerts, store_incidents
from gpuward.coordinator.alerts import Alert, Looks, Sight, is_acknowledgement
from gpuward.coordinator.due_work import DueWork
from gpuward.coordinator.in_time import in_time
from gpuward.coordinator.model import State
from gpuward.coordinator.outbox import IN_FLIGHT_LIMIT
from gpuward.coordinator.page import Refused, Retry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.coordinator.page import Notifier
    from gpuward.coordinator.store import Store
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()


class AlertLooking(DueWork[Alert]):
    """Reads back what people did to what channels hold."""

    def __init__(self, store: Store, notifiers: Mapping[str, Notifier], clock: Clock) -> None:
        super().__init__(
            "look",
            store,
            clock,
            limit=IN_FLIGHT_LIMIT,
            is_any_due=store_alerts.is_any_to_look_at,
            take=store_alerts.take_to_look_at,
        )
        self._notifiers = notifiers
        # By channel, why it could not be read at the last look.
        self._troubles: dict[str, str] = {}

    async def _do(self, alert: Alert) -> None:
        sight = await self._ask(alert)
        if isinstance(sight, Sight):
            self._note(alert.channel, "")
            if sight.state is not alert.seen:
                await self._take(alert, sight)
        else:
            self._note(alert.channel, sight.reason)
            await self._wait(alert, sight)

    async def _ask(self, alert: Alert) -> Sight | Retry | Refused:
        notifier = self._notifiers.get(alert.channel)
        if not isinstance(notifier, Looks):
            return Refused("no notifier of this name can be read back")
        return await in_time(notifier.look(alert))

    async def _take(self, alert: Alert, sight: Sight) -> None:
        now_s = self._clock.wall_s()
        async with self._store.writing() as tx:
            incident = await store_incidents.load(tx.connection, alert.incident_id, for_update=True)
            present = await store_alerts.load(tx.connection, alert.id)
            if incident is None or present is None:
                return
            await store_alerts.mark_seen(tx.connection, present, sight.state)
            if is_acknowledgement(present, sight):
                by = sight.by or f"somebody in {alert.channel}"
                note = (
                    f"{'closed' if sight.state is State.RESOLVED else 'taken'} in {alert.channel}"
                )
                await tx.tell(incident, [e.Acknowledge(by=by, note=note)], now_s)
                log.info("alert.taken", incident=incident.id, channel=alert.channel)

    async def _wait(self, alert: Alert, trouble: Retry | Refused) -> None:
        if isinstance(trouble, Retry) and (trouble.after_s or 0.0) > store_alerts.LOOK_EVERY_S:
            async with self._store.writing() as tx:
                look_at_s = self._clock.wall_s() + (trouble.after_s or 0.0)
                await store_alerts.look_later(tx.connection, alert, look_at_s)

    def _note(self, channel: str, trouble: str) -> None:
        """Say it when a channel can no longer be read, and when it can again."""
        before = self._troubles.get(channel, "")
        self._troubles[channel] = trouble
        if trouble != before:
            log.warning("alert.look_changed", channel=channel, trouble=trouble, before=before)
