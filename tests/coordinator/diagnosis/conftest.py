"""A service of replicas, one on each node, told of as agents and their counters tell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gpuward.coordinator.diagnosis.gather import gather
from gpuward.coordinator.diagnosis.weigh import diagnose
from gpuward.coordinator.impact import Impact, Replica
from gpuward.coordinator.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Subject,
)

ONSET_S = 1_800_000_000.0
WEEK_S = 7 * 86_400.0


def replica(
    number, *, hurt=False, requests=300, began_s=ONSET_S - WEEK_S, is_heard=True, changed=None
):
    """``hurt``: half of its requests are slow; None: some are, too few to call it hurt."""
    slow = {True: requests // 2, False: 0, None: requests // 20}[hurt]
    impact = Impact(
        "chat", requests, 0, slow, instances=1, ready=1, nodes=frozenset({f"n{number}"})
    )
    return Replica(f"n{number}:8000", f"n{number}", began_s, is_heard, impact, changed)


def replicas(hurt, well=0, **changes):
    found = [replica(number, hurt=True, **changes) for number in range(1, hurt + 1)]
    return found + [replica(number, **changes) for number in range(hurt + 1, hurt + well + 1)]


def verdict(number, cause, *, confidence=0.9, since_s=ONSET_S, gpu="", signs=(), **changes):
    """What node ``number`` tells of its replica; ``facts``: further words of its evidence."""
    service = changes.pop("service", "chat")
    facts = {"verdict": cause, **changes.pop("facts", {})}
    evidence = [Evidence(name, text=text) for name, text in facts.items()]
    evidence += [Evidence(name, text=f"for: {name} is seen") for name in signs]
    blames = changes.pop("blames", ())
    return Finding(
        finding_id=f"n{number}/{service}-why",
        dedup_key=f"n{number}|{service}|why",
        kind="service.latency.cause",
        subject=Subject(f"n{number}", gpu, service=service, endpoint=f"n{number}:8000"),
        summary=f"{service} at n{number}:8000 is slow: {cause}.",
        default_class=FindingClass.STORE,
        since_s=since_s,
        last_seen_s=since_s + 60,
        confidence=confidence,
        evidence=tuple(evidence),
        cause_dedup_keys=blames,
        **{"domain": CauseDomain.CAPACITY, "action": Action.SCALE_UP, **changes},
    )


def upstream(number, name="vectors", *, kind="service.upstream.slow", since_s=ONSET_S):
    return Finding(
        finding_id=f"n{number}/{name}",
        dedup_key=f"n{number}|{kind}|{name}",
        kind=kind,
        subject=Subject(f"n{number}", endpoint=name),
        summary=f"Upstream {name} is slower than usual.",
        default_class=FindingClass.STORE,
        since_s=since_s,
        last_seen_s=since_s + 60,
        domain=CauseDomain.NETWORK,
    )


def silent(number):
    return Finding(
        finding_id=f"n{number}/overdue",
        dedup_key=f"n{number}|node.overdue",
        kind="node.overdue",
        subject=Subject(f"n{number}"),
        summary="silent",
        default_class=FindingClass.TICKET,
        since_s=ONSET_S,
        last_seen_s=ONSET_S,
    )


def case(known, findings=(), at_s=ONSET_S + 60):
    return gather("chat", known, findings, onset_s=ONSET_S, now_s=at_s)


def said(known, findings=(), before=None, at_s=ONSET_S + 60):
    return diagnose(case(known, findings, at_s), before)


@pytest.fixture(scope="session")
def lab():
    """What the tests build their services with: pytest has no imports between test files."""
    return SimpleNamespace(
        onset_s=ONSET_S,
        replica=replica,
        replicas=replicas,
        verdict=verdict,
        upstream=upstream,
        silent=silent,
        case=case,
        said=said,
    )
