"""Deliver pages: lease, look again, send, mark.

Between decision and delivery somebody may have acknowledged; a page that waits for that is not sent
then, and the timeline says so.  Every attempt carries the same dedup key.  A page that its channel
refuses, or does not take for a minute, goes out on another channel too.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from gpuward.coordinator import escalation, store_alerts, store_incidents, store_outbox
from gpuward.coordinator import events as e
from gpuward.coordinator.alerts import Follows, Looks
from gpuward.coordinator.compose import compose, incident_of
from gpuward.coordinator.due_work import DueWork
from gpuward.coordinator.fallback import Fallback
from gpuward.coordinator.in_time import in_time
from gpuward.coordinator.model import Page
from gpuward.coordinator.page import Message, Outcome, Refused, Retry, Sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.coordinator.model import Incident
    from gpuward.coordinator.page import Notifier
    from gpuward.coordinator.store import Store, Transaction
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

# A channel that does not say when to come back: 2, 4, 8 ... seconds, at most this, and up to a
# quarter less: pages that failed together do not come back together.
BACKOFF_LIMIT_S = 120.0
DOUBLINGS = 7
JITTER = 0.25
# Pages on their way at the same time: one slow channel does not hold up the others.
IN_FLIGHT_LIMIT = 50


class Outbox(DueWork[Page]):
    """Delivers what the store holds through ``notifiers``, by channel name."""

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        clock: Clock,
        base_url: str,
        *,
        speed: float = 1.0,
        fallback: Fallback | None = None,
    ) -> None:
        super().__init__(
            "page",
            store,
            clock,
            limit=IN_FLIGHT_LIMIT,
            is_any_due=store_outbox.is_any_due,
            take=store_outbox.lease,
        )
        self._notifiers = notifiers
        self._base_url = base_url
        self._speed = speed
        self._fallback = Fallback() if fallback is None else fallback

    async def _do(self, page: Page) -> None:
        message = await self._compose(page)
        if message is not None:
            await self._mark(page, await self._send(page, message))

    async def _compose(self, page: Page) -> Message | None:
        """Return the message; ``None``, with the page ended, when it must not go out any more."""
        async with self._store.reading() as connection:
            incident = await incident_of(connection, page)
            reason = escalation.stops(incident, page.until)
            if not reason:
                now_s = self._clock.wall_s()
                return await compose(
                    connection, page, incident, self._base_url, speed=self._speed, now_s=now_s
                )
        event = e.PageSuppressed(reason=reason, **_about(page))
        # An earlier attempt may have been taken, and its answer lost.
        await self._end(page, event, unsent=reason, is_there=page.attempts > 0)
        return None

    async def _send(self, page: Page, message: Message) -> Outcome:
        notifier = self._notifiers.get(page.channel)
        if notifier is None:
            return Refused(f"no notifier is named {page.channel}")
        return await in_time(notifier.send(message))

    async def _mark(self, page: Page, outcome: Outcome) -> None:
        about, attempts = _about(page), page.attempts + 1
        match outcome:
            case Sent(reference):
                event = e.PageSent(dedup_key=page.dedup_key, attempts=attempts, **about)
                await self._end(page, event, unsent="", is_there=True, reference=reference)
                log.info("page.sent", incident=page.incident_id, **about)
            case Refused(reason):
                await self._end(page, e.PageFailed(reason=reason, **about), unsent=reason)
                log.error("page.refused", incident=page.incident_id, reason=reason, **about)
            case Retry(reason, after_s):
                delay_s = backoff_s(page.id, attempts) if after_s is None else after_s
                await self._delay(page, self._clock.wall_s() + delay_s, reason)
                log.warning("page.delayed", incident=page.incident_id, reason=reason, **about)

    async def _end(
        self,
        page: Page,
        event: e.AnyEvent,
        *,
        unsent: str,
        is_there: bool = False,
        reference: str = "",
    ) -> None:
        """End ``page``; ``is_there``: the channel holds it, or may, under ``reference``."""
        now_s = self._clock.wall_s()
        notifier = self._notifiers.get(page.channel)
        async with self._store.writing() as tx:
            incident = await store_incidents.load(tx.connection, page.incident_id, for_update=True)
            if not await store_outbox.mark_ended(tx.connection, page, now_s, unsent):
                return
            if is_there and isinstance(notifier, Follows):
                await store_alerts.add(
                    tx.connection,
                    page,
                    reference,
                    can_look=isinstance(notifier, Looks),
                    now_s=now_s,
                )
            if incident is None:
                return
            incident = await tx.append(incident, [event], now_s)
            if isinstance(event, e.PageFailed):
                await self._fall_back(tx, page, incident, event.reason)

    async def _delay(self, page: Page, due_at_s: float, reason: str) -> None:
        async with self._store.writing() as tx:
            incident = await store_incidents.load(tx.connection, page.incident_id, for_update=True)
            await store_outbox.mark_retry(tx.connection, page, due_at_s, reason)
            if incident is not None and self._fallback.is_due(page, due_at_s):
                await self._fall_back(tx, page, incident, reason)

    async def _fall_back(
        self, tx: Transaction, page: Page, incident: Incident, reason: str
    ) -> None:
        """Have ``page`` sent on another channel too, unless it stops or there is none."""
        if escalation.stops(incident, page.until):
            return
        now_s = self._clock.wall_s()
        pages = await store_outbox.load(tx.connection, page.incident_id)
        channel = self._fallback.next_channel(page, pages)
        if channel is None:
            return
        await store_outbox.add(tx.connection, [replace(page, channel=channel, created_at_s=now_s)])
        event = e.PageFellBack(onto=channel, reason=reason, **_about(page))
        await tx.append(incident, [event], now_s)
        log.warning("page.fell_back", incident=page.incident_id, onto=channel, **_about(page))


def backoff_s(row: int, attempts: int) -> float:
    """Return how long to wait after so many attempts; the same for the same attempt of a row."""
    spread = zlib.crc32(f"{row} {attempts}".encode()) / 2**32
    # Hours of attempts do not fit into a power of two.
    doubled_s = 2.0 ** min(attempts, DOUBLINGS)
    return min(BACKOFF_LIMIT_S, doubled_s) * (1 - JITTER * spread)


def _about(page: Page) -> dict[str, str]:
    return {"level": page.level, "target": page.target, "channel": page.channel}
