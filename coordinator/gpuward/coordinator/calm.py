"""Close what is over: mitigate or resolve incidents whose findings have all been clear for a hold.

A machine resolves what peaked at SEV3 or SEV4.  SEV1 and SEV2 it only mitigates: a person has to
say what fixed them, and the review needs that sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.coordinator import events as e
from gpuward.coordinator import store_incidents
from gpuward.coordinator.correlate import SERVICE_IMPACT
from gpuward.coordinator.model import Incident, Severity, State
from gpuward.coordinator.severity import HOLD_S

if TYPE_CHECKING:
    from gpuward.coordinator.store import Store


def closing(incident: Incident, *, speed: float, now_s: float) -> e.Mitigate | e.Resolve | None:
    """Return how a machine may close ``incident`` now, if it may."""
    since_s = _calm_since_s(incident)
    if since_s is None or now_s - since_s < HOLD_S / speed:
        return None
    reason = f"every finding has been clear for {HOLD_S / speed:.0f} s"
    if incident.peak_severity.worse_than(Severity.SEV3):
        return e.Mitigate(e.MACHINE, reason) if incident.state is not State.MITIGATED else None
    return e.Resolve(e.MACHINE, reason)


async def close_calm(store: Store, *, speed: float, now_s: float) -> None:
    """Close every incident that has been calm for the hold."""
    async with store.reading() as connection:
        incidents = await store_incidents.load_open(connection)
    for candidate in incidents:
        if closing(candidate, speed=speed, now_s=now_s) is not None:
            await _close(store, candidate.id, speed, now_s)


async def _close(store: Store, incident_id: str, speed: float, now_s: float) -> None:
    async with store.writing() as tx:
        incident = await store_incidents.load(tx.connection, incident_id, for_update=True)
        command = None if incident is None else closing(incident, speed=speed, now_s=now_s)
        if incident is not None and command is not None:
            await tx.tell(incident, [command], now_s)


def _calm_since_s(incident: Incident) -> float | None:
    if not incident.is_open:
        return None
    if incident.kind != SERVICE_IMPACT:
        return incident.quiet_since_s
    # Users first: the impact must be over, and then the causes, where any are known.
    if incident.state is not State.MITIGATED or incident.mitigated_at_s is None:
        return None
    if incident.findings and incident.quiet_since_s is None:
        return None
    return max(incident.mitigated_at_s, incident.quiet_since_s or 0.0)
