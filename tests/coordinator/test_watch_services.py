"""From counters to incidents and back, on a real store with a clock of its own."""

from __future__ import annotations

import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator import store_reports
from gpuward.coordinator.calm import close_calm
from gpuward.coordinator.intake import Intake
from gpuward.coordinator.model import Severity, State
from gpuward.coordinator.watch_services import Counts, forget_old_readings, judge_services


class Service:
    """One instance on one node that reports, and is judged, every 30 s."""

    def __init__(self, make, store):
        self.make, self.store, self.intake = make, store, Intake(store)
        self.counts = Counts()
        self.now_s, self.seq, self.session = make.now_s, 0, None
        self.requests = self.failed = 0
        self.findings = ()

    async def serve(self, for_s, *, per_s=10, failing=0.0, **changes):
        """Let time pass with ``per_s`` requests a second, of which a share fails."""
        if self.session is None:
            hello = {"boot_id": "b", "agent_version": "1", "query_address": ""}
            self.session = await self.intake.open_session("n1", self.now_s, **hello)
        for _ in range(int(for_s // 30)):
            self.now_s += 30
            self.requests += int(per_s * 30)
            self.failed += int(per_s * 30 * failing)
            await self.report(**changes)
            await self.intake.flush()
            await judge_services(self.store, self.counts, speed=1.0, now_s=self.now_s)
            await close_calm(self.store, speed=1.0, now_s=self.now_s)

    async def report(self, **changes):
        self.seq += 1
        reading = self.make.totals(self.now_s, self.requests, self.failed, **changes)
        report = self.make.report(self.seq, self.findings, totals=[reading], at_s=self.now_s)
        await self.intake.take(self.session, report, self.now_s)

    async def incidents(self):
        found = await self.store.list_incidents()
        return [i for i in found if i.kind == "service.impact"]


@pytest.fixture
def service(make, store):
    return Service(make, store)


async def test_a_healthy_service_has_no_incident(service):
    await service.serve(600)

    assert [] == await service.incidents()


async def test_an_outage_becomes_sev1(service):
    """The share of failures is that of the window, so it grows as the good past leaves it."""
    await service.serve(300)
    await service.serve(30, failing=1.0)
    (incident,) = await service.incidents()
    assert incident.severity in (Severity.SEV3, Severity.SEV2)
    assert incident.impact_since_s == service.make.now_s + 330

    await service.serve(300, failing=1.0)

    (incident,) = await service.incidents()
    assert (Severity.SEV1, True) == (incident.severity, incident.customer_impact)


async def test_recovery_downgrades_mitigates_and_waits_for_a_person(service):
    """Mitigated after ten good minutes; SEV2 is never resolved by a machine."""
    await service.serve(60)
    await service.serve(60, failing=0.3)
    await service.serve(2000)

    (incident,) = await service.incidents()

    assert (State.MITIGATED, Severity.SEV2) == (incident.state, incident.peak_severity)
    assert incident.customer_impact is False


async def test_a_small_trouble_closes_by_itself(service):
    await service.serve(60)
    await service.serve(60, failing=0.04)
    (incident,) = await service.incidents()
    assert Severity.SEV3 == incident.severity

    await service.serve(3000)

    (incident,) = await service.incidents()
    assert (State.RESOLVED, e.MACHINE) == (incident.state, incident.resolved_by)


async def test_impact_that_returns_is_the_same_incident(service):
    await service.serve(60)
    await service.serve(60, failing=0.3)
    await service.serve(2000)
    await service.serve(120, failing=0.3)

    (incident,) = await service.incidents()

    assert (State.OPEN, True) == (incident.state, incident.customer_impact)


async def test_a_resolved_incident_is_not_reopened_by_its_own_past(service, store):
    """Failures from before the resolution are settled; new ones open a new incident."""
    await service.serve(60)
    await service.serve(60, failing=0.3)
    (incident,) = await service.incidents()
    await store.submit(incident.id, e.Resolve("ann", "restarted"), now_s=service.now_s)

    await service.serve(120)
    assert 1 == len(await service.incidents())

    await service.serve(60, failing=0.3)
    assert 2 == len(await service.incidents())


async def test_findings_where_the_service_runs_are_its_causes(service, make):
    """The closest cause picks the domain; a ticket that came first keeps its own incident."""
    await service.serve(60)
    service.findings = (make.finding(),)
    await service.serve(60, failing=0.3)

    (incident,) = await service.incidents()

    assert ["f1"] == [f.finding_id for f in incident.findings]
    assert [True] == [f.is_open for f in incident.findings]
    service.findings = ()
    await service.serve(30)
    (incident,) = await service.incidents()
    assert [False] == [f.is_open for f in incident.findings]


async def test_an_instance_that_never_gets_ready_is_an_outage(service):
    await service.serve(60)
    await service.serve(60, per_s=0, ready=False, waiting=3)

    (incident,) = await service.incidents()

    assert Severity.SEV1 == incident.severity
    assert "none of 1 instances has been ready" in incident.reasons[0]


async def test_old_readings_are_forgotten(service, store):
    await service.serve(60, failing=0.3)

    await forget_old_readings(store, speed=1.0, now_s=service.now_s + 1000)

    async with store.reading() as connection:
        assert () == await store_reports.load_totals(connection, 0.0)


async def test_a_replica_that_starts_now_judges_as_one_that_has_always_looked(service):
    await service.serve(600, failing=0.02)

    async with service.store.reading() as connection:
        fresh = await Counts().impacts(connection, speed=1.0, now_s=service.now_s)
        kept = await service.counts.impacts(connection, speed=1.0, now_s=service.now_s)

    assert fresh == kept
    assert 0 < kept["chat"].failed
