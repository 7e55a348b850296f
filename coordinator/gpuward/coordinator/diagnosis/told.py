"""What one node tells of one replica, and the replicas of which the same is told.

A verdict is a finding of kind ``service.latency.cause``; its evidence names the cause, the upstream
that is blamed, what speaks for it and against it, and what to do or to test next.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.coordinator.cause import SURE
from gpuward.coordinator.diagnosis.values import UNDETERMINED, Cohort

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gpuward.coordinator.impact import Replica
    from gpuward.coordinator.model import Finding

FOR, AGAINST = "for: ", "against: "
# As agents write it when there is no second.
NOBODY = "none"
QUESTION = "question_"
UUID_SHOWN = len("GPU-01234567")

MOST_COHORTS = 12
MOST_PLACES = 5
MOST_FACTS = 5
MOST_KEYS = 50
MOST_RIVALS = 2


@dataclass(frozen=True, slots=True)
class Told:
    """A verdict, and how the users of the replicas that it is about fare."""

    finding: Finding
    facts: dict[str, str]
    hurt: int
    well: int
    replicas: int

    @property
    def cause(self) -> str:
        if self.finding.confidence < SURE:
            # Also what is likely and passes, such as a restart.
            return UNDETERMINED
        return self.facts.get("verdict") or self.finding.domain.value

    @property
    def upstream(self) -> str:
        return self.facts.get("upstream", "")

    @property
    def place(self) -> str:
        """Where it is, for a person: the replica, its node, the GPU that is blamed."""
        about = self.finding.subject
        where = about.endpoint or about.node
        node = "" if about.node in where else f" on {about.node}"
        gpu = f" ({about.gpu_uuid[:UUID_SHOWN]})" if about.gpu_uuid else ""
        return f"{where}{node}{gpu}"

    @property
    def rivals(self) -> tuple[str, ...]:
        """What an unsure one wavers between."""
        said = self.facts.get("verdict", UNDETERMINED)
        names = [said, *self.facts.get("runner_up", NOBODY).split(", ")]
        return tuple(name for name in names if name not in ("", UNDETERMINED, NOBODY))

    def lines(self, side: str) -> tuple[str, ...]:
        """Return what is said for it or against it."""
        texts = (fact.text for fact in self.finding.evidence)
        return tuple(text.removeprefix(side) for text in texts if text.startswith(side))

    def answer(self, question: int) -> str:
        """Return yes, no or unknown."""
        return self.facts.get(f"{QUESTION}{question}", "unknown").partition(":")[0]


def told(finding: Finding, on_node: Sequence[tuple[Replica, bool | None]]) -> Told:
    """Return what a verdict says; ``on_node``: its replicas and whether their users are hurt."""
    endpoint = finding.subject.endpoint
    own = [hurt for replica, hurt in on_node if endpoint in ("", replica.instance)]
    facts = {fact.name: fact.text for fact in finding.evidence}
    return Told(finding, facts, own.count(True), own.count(False), max(1, len(own)))


def cohorts(all_told: Iterable[Told]) -> tuple[Cohort, ...]:
    """Return who tells the same, the largest first; what is told least is left out."""
    groups: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for each in all_told:
        groups[each.cause, each.upstream].append(each)
    found = [_cohort(*key, members) for key, members in sorted(groups.items())]
    found.sort(key=lambda cohort: -cohort.replicas)
    return tuple(found[:MOST_COHORTS])


def _cohort(cause: str, upstream: str, members: Sequence[Told]) -> Cohort:
    ranked = sorted(members, key=_surest_first)
    best = ranked[0]
    rivals = Counter(name for each in ranked for name in each.rivals)
    return Cohort(
        cause=cause,
        confidence=best.finding.confidence,
        replicas=sum(each.replicas for each in ranked),
        nodes=len({each.finding.subject.node for each in ranked}),
        since_s=min(each.finding.since_s for each in ranked),
        domain=best.finding.domain,
        action=best.finding.action,
        upstream=upstream,
        hurt=sum(each.hurt for each in ranked),
        well=sum(each.well for each in ranked),
        places=tuple(each.place for each in ranked[:MOST_PLACES]),
        advice=best.facts.get("advice", ""),
        next_test=best.facts.get("next_test", ""),
        supports=best.lines(FOR)[:MOST_FACTS],
        contradicts=best.lines(AGAINST)[:MOST_FACTS],
        signs=tuple(fact.name for fact in best.finding.evidence if fact.text.startswith(FOR)),
        rivals=tuple(name for name, _ in rivals.most_common(MOST_RIVALS)),
        keys=tuple(dict.fromkeys(_keys(ranked)))[:MOST_KEYS],
    )


def _surest_first(told_: Told) -> tuple[float, str]:
    return -told_.finding.confidence, told_.finding.finding_id


def _keys(members: Sequence[Told]) -> Iterator[str]:
    for each in members:
        yield from each.finding.cause_dedup_keys
    for each in members:
        yield each.finding.dedup_key
