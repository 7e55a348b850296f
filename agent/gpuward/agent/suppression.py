"""Say which open findings follow from which others, so that one trouble is told once.

A GPU that falls off the bus loses its links, its figures and its place in the driver's list; a hung
driver makes all the GPUs of a node look sick.  The graph below names such consequences.  They stay
open, as evidence that names its cause, but nobody is told of them twice.

Two rules keep the graph from hiding anything.  A cause silences only what is no louder than itself:
a ticket never swallows a page.  And the graph has no cycle, so whatever is silent follows, in the
end, from something at least as loud that is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gpuward.agent.kinds import class_of
from gpuward.agent.lost_gpu import TAKING_XIDS
from gpuward.agent.model import FindingClass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gpuward.agent.model import Finding, Subject

_LOUDNESS = (FindingClass.STORE, FindingClass.TICKET, FindingClass.PAGE)


class Reach(Enum):
    """Where a cause has its consequences."""

    SAME_GPU = "same gpu"
    SAME_SERVICE = "same service"
    WHOLE_NODE = "whole node"


@dataclass(frozen=True, slots=True)
class Rule:
    """A finding of kind ``cause``, with one of ``codes`` (none: with any), explains ``effects``.

    ``suffices`` gets the effect and all its causes by this rule: a few may not explain it all.
    """

    cause: str
    effects: tuple[str, ...]
    reach: Reach = Reach.SAME_GPU
    codes: frozenset[int] = frozenset()
    suffices: Callable[[Finding, Sequence[Finding]], bool] = lambda _effect, causes: bool(causes)


def _accounts_for_all(effect: Finding, lost: Sequence[Finding]) -> bool:
    """Return whether as many GPUs are lost by name as are missing in number."""
    missing = sum((fact.threshold or 0.0) - fact.value for fact in effect.evidence[:1])
    return bool(lost) and len(lost) >= missing


_SLOW = ("gpu.clock.slow_under_load", "gpu.slower_than_siblings")
_STUCK = ("gpu.stalled", "gpu.wedged")
_LINKS = ("gpu.pcie.degraded", "gpu.pcie.replays", "gpu.nvlink.degraded")
_FABRIC = ("gpu.fabric.unhealthy", "gpu.fabric.not_joined")
_MEMORY = (
    "gpu.ecc.uncorrected",
    "gpu.ecc.corrected_rate",
    "gpu.memory.remap_pending",
    "gpu.memory.repair_pending",
    "gpu.memory.retired_pages_pending",
)
_LATENCY = ("service.latency.inter_token", "service.latency.objective", "service.latency.queue")
_ACCOUNTS = ("process.memory.blind", "gpu.memory.coverage_fell", "gpu.memory.unattributed")

RULES: tuple[Rule, ...] = (
    # The firmware that runs the driver's calls does not answer, so neither does the driver.
    Rule("gpu.xid", ("driver.unresponsive",), Reach.WHOLE_NODE, frozenset({119, 120})),
    Rule(
        "driver.unresponsive",
        ("gpu.lost", "gpu.missing", "gpu.recovery_needed", *_SLOW, *_STUCK, *_FABRIC, *_ACCOUNTS),
        Reach.WHOLE_NODE,
    ),
    Rule(
        "driver.missing",
        ("gpu.lost", "gpu.missing", "gpu.init_failed", *_STUCK, *_ACCOUNTS),
        Reach.WHOLE_NODE,
    ),
    Rule("gpu.xid", ("gpu.lost",), codes=TAKING_XIDS),
    Rule("gpu.lost", ("gpu.missing",), Reach.WHOLE_NODE, suffices=_accounts_for_all),
    Rule("gpu.init_failed", ("gpu.missing",), Reach.WHOLE_NODE),
    Rule("node.sxid", ("gpu.nvlink.degraded", *_FABRIC), Reach.WHOLE_NODE),
    Rule(
        "gpu.lost",
        (
            *("gpu.recovery_needed", *_LINKS, *_FABRIC, *_MEMORY, *_SLOW, *_STUCK, *_ACCOUNTS),
            *_LATENCY,
        ),
    ),
    Rule("gpu.xid", ("gpu.ecc.uncorrected",), codes=frozenset({48, 94, 95, 140, 171, 172})),
    Rule("gpu.xid", ("gpu.memory.remap_failed",), codes=frozenset({64})),
    Rule("gpu.xid", ("gpu.memory.remap_pending",), codes=frozenset({63})),
    Rule("gpu.xid", ("gpu.nvlink.degraded",), codes=frozenset({74, 136, *range(144, 151), 155})),
    Rule("gpu.xid", _STUCK, codes=frozenset({46, 62, 109, 110, 140, 143, 158})),
    Rule(
        "gpu.memory.unrepairable",
        ("gpu.memory.remap_failed", "gpu.memory.remap_exhausted", "gpu.recovery_needed"),
    ),
    Rule(
        "gpu.memory.remap_failed",
        ("gpu.memory.remap_exhausted", "gpu.memory.remap_pending", "gpu.recovery_needed"),
    ),
    Rule("gpu.ecc.uncorrected", ("gpu.memory.remap_pending", "gpu.recovery_needed")),
    Rule("gpu.memory.remap_pending", ("gpu.recovery_needed",)),
    Rule("gpu.nvlink.degraded", (*_FABRIC, "gpu.slower_than_siblings")),
    Rule("gpu.power.brake", (*_SLOW, *_LATENCY)),
    Rule("gpu.thermal.slowdown", (*_SLOW, *_LATENCY)),
    Rule("gpu.power.limit_lowered", _SLOW),
    Rule("gpu.pcie.degraded", ("gpu.slower_than_siblings", "gpu.stalled")),
    Rule("gpu.clock.slow_under_load", ("gpu.slower_than_siblings",)),
    Rule("gpu.wedged", ("gpu.stalled", *_LATENCY)),
    Rule(
        "service.outage",
        ("service.endpoint.failing", "service.errors", *_LATENCY),
        Reach.SAME_SERVICE,
    ),
)

_BY_EFFECT: dict[str, tuple[Rule, ...]] = {
    effect: tuple(rule for rule in RULES if effect in rule.effects)
    for effect in dict.fromkeys(effect for rule in RULES for effect in rule.effects)
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Keys of what a finding follows from; ``is_told``: one of them is as loud as the finding."""

    causes: tuple[str, ...] = ()
    is_told: bool = False


UNEXPLAINED = Explanation()


def explain(findings: Mapping[str, Finding]) -> dict[str, Explanation]:
    """Return the explanation of each of ``findings``, by their dedup keys, that has one."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings.values():
        by_kind.setdefault(finding.kind, []).append(finding)
    explained = {}
    for key, finding in findings.items():
        causes = [
            cause
            for rule in _BY_EFFECT.get(finding.kind, ())
            for cause in _causes(rule, finding, by_kind.get(rule.cause, ()))
        ]
        if causes:
            keys = tuple(dict.fromkeys(cause.dedup_key for cause in causes))
            loudest = max(map(_loudness, causes))
            explained[key] = Explanation(keys, is_told=loudest >= _loudness(finding))
    return explained


def _causes(rule: Rule, effect: Finding, known: Iterable[Finding]) -> Sequence[Finding]:
    causes = [
        cause
        for cause in known
        if (not rule.codes or cause.code in rule.codes)
        and _reaches(rule.reach, cause.subject, effect.subject)
    ]
    return causes if rule.suffices(effect, causes) else ()


def _reaches(reach: Reach, cause: Subject, effect: Subject) -> bool:
    match reach:
        case Reach.WHOLE_NODE:
            return True
        case Reach.SAME_SERVICE:
            return bool(effect.service) and cause.service == effect.service
        case Reach.SAME_GPU:
            return bool(effect.gpu) and cause.gpu == effect.gpu


def _loudness(finding: Finding) -> int:
    return _LOUDNESS.index(class_of(finding))
