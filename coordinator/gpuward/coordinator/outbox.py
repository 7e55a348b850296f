"""Deliver pages: lease, look again, send, mark.

Between decision and delivery somebody may have acknowledged; a page that waits for that is not sent
then, and the timeline says so.  Every attempt carries the same dedup key.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from gpuward.coordinator import escalation, store_incidents, store_outbox, store_reports
from gpuward.coordinator import events as e
from gpuward.coordinator.page import Message, Outcome, Refused, Retry, Sent, render
from gpuward.coordinator.store_failures import StoreFailures
from gpuward.coordinator.watch_services import reasons_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.coordinator.model import Page
    from gpuward.coordinator.page import Notifier
    from gpuward.coordinator.store import Store
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

# Below the lease, with room for marking: a page is never in two hands.
SEND_TIMEOUT_S = 15.0
# A channel that does not say when to come back: 2, 4, 8 ... seconds, at most this.
BACKOFF_LIMIT_S = 120.0
# Pages on their way at the same time: one slow channel does not hold up the others.
IN_FLIGHT_LIMIT = 50


class Outbox:
    """Delivers what the store holds through ``notifiers``, by channel name."""

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        clock: Clock,
        base_url: str,
        *,
        speed: float = 1.0,
    ) -> None:
        self._store = store
        self._notifiers = notifiers
        self._clock = clock
        self._base_url = base_url
        self._speed = speed
        self._in_flight = 0
        self._failures = StoreFailures("page")

    async def start_due(self, group: asyncio.TaskGroup) -> int:
        """Start one try of every due page in ``group``; return how many.  0 costs one read."""
        room = IN_FLIGHT_LIMIT - self._in_flight
        now_s = self._clock.wall_s()
        async with self._store.reading() as connection:
            if room == 0 or not await store_outbox.is_any_due(connection, now_s):
                return 0
        async with self._store.writing() as tx:
            pages = await store_outbox.lease(tx.connection, now_s, room)
        for page in pages:
            self._in_flight += 1
            group.create_task(self._deliver(page))
        return len(pages)

    async def deliver_due(self) -> int:
        """Try every due page once; return how many, when all have ended."""
        async with asyncio.TaskGroup() as group:
            return await self.start_due(group)

    async def _deliver(self, page: Page) -> None:
        try:
            message = await self._compose(page)
            if message is not None:
                await self._mark(page, await self._send(page, message))
        except SQLAlchemyError as error:
            # The lease runs out, and the page is tried again.
            self._failures.note(error, self._clock.mono_s())
        finally:
            self._in_flight -= 1

    async def _compose(self, page: Page) -> Message | None:
        """Return the message; ``None``, with the page ended, when it must not go out any more."""
        async with self._store.reading() as connection:
            incident = await store_incidents.load(connection, page.incident_id)
            if incident is None:
                raise LookupError(f"page {page.id} is of no incident: {page.incident_id}")
            ids = [finding.finding_id for finding in incident.findings]
            findings = await store_reports.load_findings(connection, ids)
            # The page tells how it is now, not how it was when the severity was decided.
            reasons = await reasons_now(
                connection, incident.service, speed=self._speed, now_s=self._clock.wall_s()
            )
        if reason := escalation.stops(incident, page.until):
            await self._end(page, e.PageSuppressed(reason=reason, **_about(page)), unsent=reason)
            return None
        present = replace(incident, reasons=reasons or incident.reasons)
        return render(page, present, findings, self._base_url)

    async def _send(self, page: Page, message: Message) -> Outcome:
        notifier = self._notifiers.get(page.channel)
        if notifier is None:
            return Refused(f"no notifier is named {page.channel}")
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                return await notifier.send(message)
        except TimeoutError:
            return Retry(f"no answer within {SEND_TIMEOUT_S:.0f} s")

    async def _mark(self, page: Page, outcome: Outcome) -> None:
        about, attempts = _about(page), page.attempts + 1
        match outcome:
            case Sent():
                event = e.PageSent(dedup_key=page.dedup_key, attempts=attempts, **about)
                await self._end(page, event, unsent="")
                log.info("page.sent", incident=page.incident_id, **about)
            case Refused(reason):
                await self._end(page, e.PageFailed(reason=reason, **about), unsent=reason)
                log.error("page.refused", incident=page.incident_id, reason=reason, **about)
            case Retry(reason, after_s):
                delay_s = min(BACKOFF_LIMIT_S, 2.0**attempts) if after_s is None else after_s
                due_at_s = self._clock.wall_s() + delay_s
                async with self._store.writing() as tx:
                    await store_outbox.mark_retry(tx.connection, page, due_at_s, reason)
                log.warning("page.delayed", incident=page.incident_id, reason=reason, **about)

    async def _end(self, page: Page, event: e.AnyEvent, *, unsent: str) -> None:
        now_s = self._clock.wall_s()
        async with self._store.writing() as tx:
            incident = await store_incidents.load(tx.connection, page.incident_id, for_update=True)
            if await store_outbox.mark_ended(tx.connection, page, now_s, unsent) and incident:
                await tx.append(incident, [event], now_s)


def _about(page: Page) -> dict[str, str]:
    return {"level": page.level, "target": page.target, "channel": page.channel}
