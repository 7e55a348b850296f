"""Compose what a page says from what is known now, not from what was known when it was decided."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpuward.coordinator import store_incidents, store_reports
from gpuward.coordinator.page import Message, render
from gpuward.coordinator.watch_services import reasons_now

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from gpuward.coordinator.model import Incident, Page


async def incident_of(connection: AsyncConnection, page: Page) -> Incident:
    """Return the incident that ``page`` is of; raises ``LookupError`` when there is none."""
    incident = await store_incidents.load(connection, page.incident_id)
    if incident is None:
        raise LookupError(f"page {page.id} is of no incident: {page.incident_id}")
    return incident


async def compose(
    connection: AsyncConnection,
    page: Page,
    incident: Incident,
    base_url: str,
    *,
    speed: float,
    now_s: float,
) -> Message:
    """Return what ``page`` says of ``incident``, with the figures of its service as they are."""
    ids = [finding.finding_id for finding in incident.findings]
    findings = await store_reports.load_findings(connection, ids)
    reasons = await reasons_now(connection, incident.service, speed=speed, now_s=now_s)
    present = replace(incident, reasons=reasons or incident.reasons)
    return render(page, present, findings, base_url)
