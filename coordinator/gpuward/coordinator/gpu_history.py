"""Find the incidents of one card, wherever it was plugged in: by its serial or its UUID.

A card that is moved takes both along, and with them its history; nodes and slots stay behind.
People have the serial, from the card's label or an RMA; what an incident has of old is the UUID.

A person asks this now and then, so all incidents are looked through, one at a time, rather than an
index kept with every write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.coordinator import store_incidents

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from gpuward.coordinator.model import Incident

# How NVIDIA's UUIDs begin, of a card and of a slice of one.
UUIDS = ("GPU-", "MIG-")


async def load(connection: AsyncConnection, name: str, limit: int) -> tuple[Incident, ...]:
    """Return the newest ``limit`` incidents about the card that ``name`` names, newest first."""
    named = [i async for i in store_incidents.search(connection, name) if name in names_in(i)]
    found = {incident.id: incident for incident in named}
    for uuid in {uuid for incident in named for uuid in uuids_of(incident, name)}:
        async for incident in store_incidents.search(connection, uuid):
            if uuid in names_in(incident):
                found[incident.id] = incident
    newest = sorted(found.values(), key=lambda i: (i.opened_at_s, i.id), reverse=True)
    return tuple(newest[:limit])


def names_in(incident: Incident) -> frozenset[str]:
    """Return every UUID and serial of a card that ``incident`` is about."""
    names = {incident.gpu_uuid}
    for finding in incident.findings:
        names |= {finding.gpu_uuid, finding.gpu_serial}
        # An incident of an earlier version has the card in the keys of its findings alone.
        names.update(part for part in finding.dedup_key.split("|") if part.startswith(UUIDS))
    return frozenset(names)


def uuids_of(incident: Incident, serial: str) -> frozenset[str]:
    """Return the UUIDs of the card with ``serial`` that ``incident`` tells."""
    found = (finding.gpu_uuid for finding in incident.findings if finding.gpu_serial == serial)
    return frozenset(filter(None, found))
