"""A coordinator's web side without a network: a real store, a clock that stands still."""

from __future__ import annotations

import httpx2
import msgspec
import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator import store_outbox, store_reports
from gpuward.coordinator.escalation import DEFAULT_POLICY
from gpuward.coordinator.migrate import upgrade
from gpuward.coordinator.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    LinkedFinding,
    Page,
    Relation,
    Rotation,
    ServiceTotals,
    Severity,
    Subject,
    Until,
)
from gpuward.coordinator.oncall import Person, Roster, Team
from gpuward.coordinator.store import Store
from gpuward.coordinator.store_dialect import create_engine
from gpuward.coordinator.web.app import create_app
from gpuward.daemon.testing import FakeClock

NOW_S = 1_800_000_000.0
GIB = 2.0**30

FRAGMENTATION = Finding(
    finding_id="finding-1",
    dedup_key="node-7|process.memory.fragmentation",
    kind="process.memory.fragmentation",
    subject=Subject("node-7", "GPU-7", process_key="vllm/llama", pid=4711, service="chat"),
    summary="vllm/llama strands 11.8 GiB of GPU-7",
    default_class=FindingClass.TICKET,
    since_s=NOW_S - 700,
    last_seen_s=NOW_S - 5,
    confidence=0.9,
    action=Action.RESTART_APPLICATION,
    evidence=(
        Evidence(
            "process_memory_stranded_bytes",
            11.8 * GIB,
            "bytes",
            4 * GIB,
            observed_at_s=NOW_S - 5,
            source="tap",
        ),
        Evidence("last_error", text="CUDA out of memory", source="tap"),
    ),
)
OPENED = e.Opened(
    group_key="service|chat",
    kind="service.impact",
    title="chat: 20.0% of 600 requests failed",
    severity=Severity.SEV2,
    domain=CauseDomain.CAPACITY,
    rotation=Rotation.INFRASTRUCTURE,
    service="chat",
    reasons=("20.0% of 600 requests failed",),
    customer_impact=True,
    impact_since_s=NOW_S - 660,
)
ROSTER = Roster(
    teams={
        Rotation.INFRASTRUCTURE: Team(
            Person("Ann", ("console",)), Person("Bo", ("console",)), Person("Cy", ("console",))
        )
    },
    experts={CauseDomain.CAPACITY: Person("Di", ("console",))},
    executive=Person("Vic", ("console",)),
)


class Site:
    """The application with its store and a browser that keeps cookies."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = FakeClock(wall_s=NOW_S)
        self.app = create_app(
            store, self.clock, roster=ROSTER, policy=DEFAULT_POLICY, url="http://gpuward.test"
        )
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        self.browser = httpx2.AsyncClient(transport=transport, base_url="http://gpuward.test")

    async def open(self, event=OPENED, *, findings=(), at_s=NOW_S - 600):
        """Open an incident caused by ``findings``; the primary has been paged."""
        links = [e.LinkFinding(_linked(finding)) for finding in findings]
        async with self.store.writing() as tx:
            await store_reports.write_findings(tx.connection, findings)
            incident = await tx.open(event, links, at_s)
            fired = [e.StepFired("L1", ("Ann",), ("console",))]
            page = Page(0, incident.id, "L1", "Ann", "console", "key", Until.ACKNOWLEDGED, at_s)
            await store_outbox.add(tx.connection, [page])
            return await tx.append(incident, fired, at_s)

    async def append(self, incident, *events):
        async with self.store.writing() as tx:
            return await tx.append(incident, events, self.clock.wall_s())

    async def serve(self, service, *, requests, failed):
        """Let one instance of ``service`` have served within the last five minutes."""
        first = ServiceTotals(service, "a:1", "node-7", 0.0, NOW_S - 290, NOW_S - 290)
        last = msgspec.structs.replace(
            first,
            observed_at_s=NOW_S - 5,
            received_at_s=NOW_S - 5,
            requests=requests,
            failed=failed,
        )
        async with self.store.writing() as tx:
            await store_reports.write_totals(tx.connection, [first, last])

    async def form(self, incident):
        """Return the fields of the form, as a browser that shows the incident has them."""
        await self.browser.get(f"/incidents/{incident.id}")
        token = self.browser.cookies["gpuward_csrf"]
        return {"csrf": token, "version": str(incident.version), "by": "Bo", "note": ""}


def _linked(finding):
    return LinkedFinding(
        finding.finding_id,
        finding.dedup_key,
        finding.kind,
        Relation.SERVICE,
        finding.domain,
        finding.summary,
        finding.confidence,
    )


@pytest.fixture
def fragmentation():
    return FRAGMENTATION


@pytest.fixture
def opened():
    return OPENED


@pytest.fixture
async def site(tmp_path):
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/coordinator.db")
    await upgrade(engine)
    store = Store(engine)
    site = Site(store)
    yield site
    await site.browser.aclose()
    await store.close()
