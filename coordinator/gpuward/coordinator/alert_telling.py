"""Tell providers what becomes of what they were paged for: acknowledged, resolved, a card redrawn.

Without it a page that was acknowledged here would go on ringing there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gpuward.coordinator import events as e
from gpuward.coordinator import store_alerts, store_incidents, store_outbox
from gpuward.coordinator.alerts import Alert, Follows, seen_after
from gpuward.coordinator.compose import compose
from gpuward.coordinator.due_work import DueWork
from gpuward.coordinator.in_time import in_time
from gpuward.coordinator.outbox import IN_FLIGHT_LIMIT, backoff_s
from gpuward.coordinator.page import Outcome, Refused, Retry, Sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.coordinator.model import Incident, Page, State
    from gpuward.coordinator.page import Message, Notifier
    from gpuward.coordinator.store import Store, Transaction
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()


class AlertTelling(DueWork[Alert]):
    """Brings what channels hold up to date with the incidents."""

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        clock: Clock,
        base_url: str,
        *,
        speed: float = 1.0,
    ) -> None:
        super().__init__(
            "alert",
            store,
            clock,
            limit=IN_FLIGHT_LIMIT,
            is_any_due=store_alerts.is_any_to_tell,
            take=store_alerts.take_to_tell,
        )
        self._notifiers = notifiers
        self._base_url = base_url
        self._speed = speed

    async def _do(self, alert: Alert) -> None:
        page, incident, message = await self._now(alert)
        await self._mark(alert, page, incident, await self._follow(alert, message))

    async def _now(self, alert: Alert) -> tuple[Page, Incident, Message]:
        async with self._store.reading() as connection:
            incident = await store_incidents.load(connection, alert.incident_id)
            pages = await store_outbox.load(connection, alert.incident_id)
            page = next((page for page in pages if page.id == alert.page_id), None)
            if incident is None or page is None:
                raise LookupError(f"alert {alert.id} is of no incident: {alert.incident_id}")
            now_s = self._clock.wall_s()
            message = await compose(
                connection, page, incident, self._base_url, speed=self._speed, now_s=now_s
            )
        return page, incident, message

    async def _follow(self, alert: Alert, message: Message) -> Outcome:
        notifier = self._notifiers.get(alert.channel)
        if not isinstance(notifier, Follows):
            return Refused(f"no notifier of the kind is named {alert.channel}")
        return await in_time(notifier.follow(alert, message))

    def _tells(self, alert: Alert) -> frozenset[State]:
        notifier = self._notifiers.get(alert.channel)
        return notifier.tells if isinstance(notifier, Follows) else frozenset()

    async def _mark(self, alert: Alert, page: Page, incident: Incident, outcome: Outcome) -> None:
        now_s = self._clock.wall_s()
        about = {"incident": incident.id, "channel": alert.channel, "state": incident.state.value}
        async with self._store.writing() as tx:
            match outcome:
                case Sent():
                    seen = seen_after(alert, incident.state, self._tells(alert))
                    await store_alerts.mark_told(tx.connection, alert, incident, seen, now_s)
                case Retry(reason, after_s):
                    own_s = backoff_s(alert.id, alert.attempts + 1)
                    delay_s = own_s if after_s is None else after_s
                    await store_alerts.mark_untold(tx.connection, alert, now_s + delay_s)
                    log.warning("alert.delayed", reason=reason, **about)
                case Refused(reason):
                    await store_alerts.forget(tx.connection, alert)
                    log.error("alert.refused", reason=reason, **about)
                    # What never arrived for certain need not be there to be told.
                    if page.sent_at_s is not None:
                        await _note(tx, alert, reason, now_s)


async def _note(tx: Transaction, alert: Alert, reason: str, now_s: float) -> None:
    incident = await store_incidents.load(tx.connection, alert.incident_id, for_update=True)
    if incident is not None:
        words = f"{alert.channel} cannot be told what becomes of it: {reason}"
        await tx.append(incident, [e.Noted(by=e.MACHINE, text=words)], now_s)
