"""A coordinator without a network: values to build from, a store on a real SQLite file."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest

from gpuward.coordinator import correlate
from gpuward.coordinator import events as e
from gpuward.coordinator import incident as fold
from gpuward.coordinator.migrate import upgrade
from gpuward.coordinator.model import (
    CauseDomain,
    Finding,
    FindingClass,
    Relation,
    Rotation,
    ServiceTotals,
    Severity,
    Subject,
)
from gpuward.coordinator.oncall import Person, Roster, Team
from gpuward.coordinator.page import Sent
from gpuward.coordinator.report import Report
from gpuward.coordinator.store import Store
from gpuward.coordinator.store_dialect import create_engine
from gpuward.daemon.testing import FakeClock

NOW_S = 1_800_000_000.0


def opened(severity=Severity.SEV2, **changes):
    values = {
        "group_key": "service|chat",
        "kind": "service.impact",
        "title": "chat: 20.0% of 600 requests failed",
        "domain": CauseDomain.CAPACITY,
        "rotation": Rotation.INFRASTRUCTURE,
        "service": "chat",
        "reasons": ("20.0% of 600 requests failed",),
        "customer_impact": True,
        "impact_since_s": NOW_S,
    }
    return e.Opened(severity=severity, **{**values, **changes})


def incident(severity=Severity.SEV2, **changes):
    return fold.opened("01INCIDENT", opened(severity, **changes), NOW_S)


def finding(finding_id="f1", *, kind="process.memory.fragmentation", **changes):
    subject = changes.pop("subject", Subject("n1", "GPU-1", process_key="vllm", service="chat"))
    value = Finding(
        finding_id=finding_id,
        dedup_key=f"{subject.node}|{kind}|{subject.gpu_uuid}",
        kind=kind,
        subject=subject,
        summary=f"{kind} on {subject.gpu_uuid or subject.node}",
        default_class=FindingClass.TICKET,
        since_s=NOW_S - 60,
        last_seen_s=NOW_S,
    )
    return replace(value, **changes)


def linked(value, relation=Relation.SERVICE):
    return correlate.linked(value, relation)


def report(
    seq=1, findings=(), events=(), totals=(), *, node="n1", agent="a1", at_s=NOW_S, sights=None
):
    open_now = tuple(findings), tuple(events), tuple(totals), sights or {}
    return Report(node, "boot", agent, seq, at_s, *open_now)


def totals(at_s, requests=0, failed=0, *, instance="n1:1", node="n1", service="chat", **changes):
    value = ServiceTotals(
        service, instance, node, NOW_S - 86_400, at_s, at_s, requests=requests, failed=failed
    )
    return msgspec.structs.replace(value, **changes)


ROSTER = Roster(
    teams={
        Rotation.INFRASTRUCTURE: Team(
            Person("ann", ("pager", "phone")), Person("bob", ("pager",)), Person("cyd", ("pager",))
        ),
        Rotation.ML: Team(Person("mia", ("pager",)), Person("max", ("pager",))),
        Rotation.DATA: Team(Person("dan", ("pager",))),
    },
    experts={CauseDomain.CAPACITY: Person("exa", ("pager",))},
    executive=Person("vic", ("pager",)),
)


class FakeNotifier:
    """Takes every page, unless told what else to answer first."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.messages = []

    async def send(self, message):
        self.messages.append(message)
        return self.outcomes.pop(0) if self.outcomes else Sent()

    async def close(self):
        """Nothing is open."""


@pytest.fixture
def make():
    """What tests build values with: pytest has no imports between test files."""
    return SimpleNamespace(
        finding=finding,
        incident=incident,
        linked=linked,
        now_s=NOW_S,
        opened=opened,
        report=report,
        roster=ROSTER,
        totals=totals,
        notifier=FakeNotifier,
    )


@pytest.fixture
def clock():
    return FakeClock(wall_s=NOW_S)


@pytest.fixture
async def store(tmp_path):
    engine = create_engine(f"sqlite+aiosqlite:///{tmp_path}/coordinator.db")
    await upgrade(engine)
    store = Store(engine)
    yield store
    await store.close()
