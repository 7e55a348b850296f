"""Make a case of what is stored: replicas and their users, open findings of all nodes.

A node that is silent has no say: what it told before it fell silent may be over, and a partition
is no fault of a GPU.  Drills are left out.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from gpuward.coordinator.cause import VERDICT
from gpuward.coordinator.correlate import NODE_OVERDUE, is_drill
from gpuward.coordinator.diagnosis.causes import UPSTREAM
from gpuward.coordinator.diagnosis.told import Told, cohorts, told
from gpuward.coordinator.diagnosis.values import Answer, Case, Change, Starts, Upstream
from gpuward.coordinator.model import Severity
from gpuward.coordinator.severity import FEW_REQUESTS, assess

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpuward.coordinator.impact import Replica
    from gpuward.coordinator.model import Finding

    Standing = Sequence[tuple[Replica, bool | None]]

UPSTREAM_SLOW = "service.upstream.slow"
UPSTREAM_DOWN = "service.upstream.down"
# What began this long before users were hurt may be why; a roll-out takes its time.
CHANGE_BEFORE_S = 1800.0
# Of a longer while nobody remembers what was changed.
SUSPECT_BEFORE_S = 86_400.0
# Of the runbook, those that a node can answer for the service.
QUESTIONS = (1, 2, 3, 4)
MOST_PLACES = 5
MOST_UPSTREAMS = 5
MOST_SERVICES = 5
MOST_CHANGES = 3
MOST_KEYS = 50


def gather(
    service: str,
    replicas: Iterable[Replica],
    findings: Iterable[Finding],
    *,
    onset_s: float,
    now_s: float,
    speed: float = 1.0,
) -> Case:
    """Return the case of ``service``, whose users have been hurt since ``onset_s``.

    ``findings``: the open ones of all nodes.
    """
    known = sorted(replicas, key=lambda replica: (replica.node, replica.instance))
    heard = [(each, is_hurt(each, speed)) for each in known if each.is_heard]
    said = _said(findings)
    verdicts = _verdicts(service, heard, said)
    anew = _began(heard, onset_s - SUSPECT_BEFORE_S, onset_s)
    return Case(
        service=service,
        onset_s=onset_s,
        at_s=now_s,
        replicas=len(known),
        heard=len(heard),
        hurt=sum(hurt is True for _, hurt in heard),
        well=sum(hurt is False for _, hurt in heard),
        hurt_places=tuple(each.instance for each, hurt in heard if hurt)[:MOST_PLACES],
        cohorts=cohorts(verdicts),
        upstreams=tuple(_upstreams(service, heard, said))[:MOST_UPSTREAMS],
        # What began later is a remedy, or follows.
        starts=_starts(_began(heard, onset_s - CHANGE_BEFORE_S, onset_s)),
        dated=sum(each.started_at_s > 0 for each, _ in heard),
        began_anew=len(anew),
        last_began_s=max((each.started_at_s for each, _ in anew), default=0.0),
        changes=_changes(heard, onset_s - SUSPECT_BEFORE_S, onset_s),
        answers=tuple(_answers(verdicts)),
    )


def is_hurt(replica: Replica, speed: float) -> bool | None:
    """Return whether users of ``replica`` are hurt; ``None`` when too little is known.

    By the thresholds of a service: SEV3 and worse is hurt, nothing at all is well.
    """
    severity = assess(replica.impact, speed=speed).severity
    if severity is None:
        return False if replica.impact.requests >= FEW_REQUESTS else None
    return None if severity is Severity.SEV4 else True


def _said(findings: Iterable[Finding]) -> list[Finding]:
    """Return the open findings of those who have a say."""
    real = [f for f in findings if f.is_open and not is_drill(f)]
    silent = {f.subject.node for f in real if f.kind == NODE_OVERDUE}
    return [f for f in real if f.subject.node not in silent]


def _verdicts(service: str, heard: Standing, said: Sequence[Finding]) -> list[Told]:
    on_node: dict[str, list[tuple[Replica, bool | None]]] = defaultdict(list)
    for each, hurt in heard:
        on_node[each.node].append((each, hurt))
    own = (f for f in said if f.kind == VERDICT and f.subject.service == service)
    return [told(f, on_node[f.subject.node]) for f in own]


def _upstreams(service: str, heard: Standing, said: Sequence[Finding]) -> list[Upstream]:
    """Return the upstreams in trouble that a serving node waits for, the most widely seen first."""
    nodes = {replica.node for replica, _ in heard}
    seen: dict[str, list[Finding]] = defaultdict(list)
    for finding in said:
        is_upstream = finding.kind in (UPSTREAM_SLOW, UPSTREAM_DOWN)
        if is_upstream and finding.subject.endpoint and finding.subject.node in nodes:
            seen[finding.subject.endpoint].append(finding)
    blamed = _blamed_by_others(service, said)
    found = [_upstream(name, seen[name], blamed[name]) for name in sorted(seen)]
    return sorted(found, key=lambda each: (-each.nodes, -len(each.services)))


def _blamed_by_others(service: str, said: Sequence[Finding]) -> dict[str, set[str]]:
    """Return by upstream the other services of which a node says that they wait for it."""
    blamed: dict[str, set[str]] = defaultdict(set)
    for finding in said:
        other = finding.subject.service
        if finding.kind == VERDICT and other and other != service:
            facts = {fact.name: fact.text for fact in finding.evidence}
            if facts.get("verdict") == UPSTREAM:
                blamed[facts.get("upstream", "")].add(other)
    return blamed


def _upstream(name: str, seen: Sequence[Finding], blamed: set[str]) -> Upstream:
    return Upstream(
        name=name,
        is_down=any(finding.kind == UPSTREAM_DOWN for finding in seen),
        nodes=len({finding.subject.node for finding in seen}),
        since_s=min(finding.since_s for finding in seen),
        services=tuple(sorted(blamed))[:MOST_SERVICES],
        keys=tuple(sorted({finding.dedup_key for finding in seen}))[:MOST_KEYS],
    )


def _began(heard: Standing, from_s: float, until_s: float) -> Standing:
    return [(each, hurt) for each, hurt in heard if from_s <= each.started_at_s <= until_s]


def _starts(fresh: Standing) -> Starts | None:
    if not fresh:
        return None
    began_s = [each.started_at_s for each, _ in fresh]
    return Starts(
        replicas=len(fresh),
        hurt=sum(hurt is True for _, hurt in fresh),
        well=sum(hurt is False for _, hurt in fresh),
        first_s=min(began_s),
        last_s=max(began_s),
    )


def _changes(heard: Standing, from_s: float, until_s: float) -> tuple[Change, ...]:
    found: dict[str, list[float]] = defaultdict(list)
    for each, _ in heard:
        if each.changed is not None and from_s <= each.changed.at_s <= until_s:
            found[each.changed.words].append(each.changed.at_s)
    changes = [Change(words, len(times), min(times)) for words, times in found.items()]
    changes.sort(key=lambda change: (-change.replicas, -change.at_s, change.words))
    return tuple(changes[:MOST_CHANGES])


def _answers(verdicts: Sequence[Told]) -> list[Answer]:
    said = {number: [each.answer(number) for each in verdicts] for number in QUESTIONS}
    return [
        Answer(number, words.count("yes"), words.count("no"), words.count("unknown"))
        for number, words in said.items()
        if words
    ]
