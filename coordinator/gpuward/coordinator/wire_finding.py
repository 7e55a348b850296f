"""Turn findings from agents into values: bounded, checked, mended; see ``wire``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from gpuward.coordinator.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Result,
    Subject,
)
from gpuward.coordinator.reader import ID_LIMIT, INTEGER_LIMIT
from gpuward.v1 import finding_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import StrEnum

    from gpuward.coordinator.reader import Reader

# Lengths: columns of the store, and what a person can read.
KEY_LIMIT = 1_200
TEXT_LIMIT = 2_000
EVIDENCE_LIMIT = 50
CAUSES_LIMIT = 20

E = TypeVar("E", bound="StrEnum")


def _table(prefix: str, values: Mapping[str, int], kind: type[E]) -> dict[int, E]:
    return {values[f"{prefix}_{member.name}"]: member for member in kind}


RESULTS = _table("CHECK_RESULT", dict(finding_pb2.CheckResult.items()), Result)
CLASSES = _table("FINDING_CLASS", dict(finding_pb2.FindingClass.items()), FindingClass)
DOMAINS = _table("CAUSE_DOMAIN", dict(finding_pb2.CauseDomain.items()), CauseDomain)
ACTIONS = _table("SUGGESTED_ACTION", dict(finding_pb2.SuggestedAction.items()), Action)


class Known:
    """The findings of a session's last report: what they say again need not be read again.

    Nineteen of twenty differ from the ones before in when and how often they were seen.
    """

    def __init__(self) -> None:
        self._read: dict[str, tuple[finding_pb2.Finding, Finding]] = {}

    def findings(
        self, items: Sequence[finding_pb2.Finding], node: str, reader: Reader
    ) -> tuple[Finding, ...]:
        """Return the findings that ``items`` are, without those that have no identity."""
        read = {}
        for item in items:
            sight = _sight(item, reader)
            # What is left is what the finding says; the message is ours.
            item.ClearField("last_seen")
            item.ClearField("count")
            said, finding = self._read.get(item.finding_id, (None, None))
            if said is not None and finding is not None and said == item:
                finding = replace(
                    finding,
                    since_s=sight.since_s,
                    last_seen_s=sight.at_s,
                    count=sight.count,
                )
            else:
                finding = _finding(item, sight, node, reader)
                # A copy: a part of a message keeps the whole of it in memory.
                said = finding_pb2.Finding()
                said.CopyFrom(item)
            if finding is not None:
                # One finding a raise: of a doubled id the last word stands.
                read[item.finding_id] = (said, finding)
        self._read = read
        return tuple({f.finding_id: f for _, f in read.values()}.values())


@dataclass(frozen=True, slots=True)
class _Sight:
    """Since when, when last, and how often a finding was seen."""

    since_s: float
    at_s: float
    count: int


def _sight(item: finding_pb2.Finding, reader: Reader) -> _Sight:
    at_s = reader.at(item.last_seen, "finding.last_seen")
    since_s = min(reader.at(item.since, "finding.since"), at_s)
    return _Sight(since_s, at_s, max(1, min(item.count, INTEGER_LIMIT)))


def finding_from(item: finding_pb2.Finding, node: str, reader: Reader) -> Finding | None:
    """Return the finding; ``None``, with a note, for one that has no usable identity."""
    return _finding(item, _sight(item, reader), node, reader)


def _finding(item: finding_pb2.Finding, sight: _Sight, node: str, reader: Reader) -> Finding | None:
    if not 0 < len(item.finding_id) <= ID_LIMIT or not item.finding_id.isprintable():
        reader.note(f"finding_id: dropped, not 1 to {ID_LIMIT} printable characters")
        return None
    name = f"finding {item.finding_id}"
    kind = reader.text(item.kind, f"{name}.kind") or "unknown"
    subject = _subject(item.subject, node, reader)
    key = reader.text(item.dedup_key, f"{name}.dedup_key", KEY_LIMIT)
    return Finding(
        # Unique on its node only; with the node, whose part ends at the last slash, everywhere.
        finding_id=f"{node}/{item.finding_id.replace('/', '-')}",
        dedup_key=key or f"{node}|{kind}|{subject.gpu_uuid}|{subject.process_key}",
        kind=kind,
        subject=subject,
        summary=reader.text(item.summary, f"{name}.summary", TEXT_LIMIT) or kind,
        # A class that we do not know is at least a ticket: unknown is not harmless.
        default_class=reader.one_of(
            CLASSES, item.default_class, FindingClass.TICKET, f"{name}.default_class"
        ),
        since_s=sight.since_s,
        last_seen_s=sight.at_s,
        domain=reader.one_of(
            DOMAINS, item.cause_domain, CauseDomain.CAPACITY, f"{name}.cause_domain"
        ),
        result=reader.one_of(RESULTS, item.result, Result.UNKNOWN, f"{name}.result"),
        code=item.code,
        cleared_at_s=_cleared_at(item, name, reader),
        count=sight.count,
        confidence=reader.number(item.confidence, f"{name}.confidence", 0.0, 1.0),
        evidence=tuple(
            _evidence(fact, name, reader)
            for fact in reader.bounded(item.evidence, f"{name}.evidence", EVIDENCE_LIMIT)
        ),
        action=reader.one_of(
            ACTIONS, item.suggested_action, Action.NONE, f"{name}.suggested_action"
        ),
        cause_dedup_keys=tuple(
            reader.text(key, f"{name}.cause_dedup_keys", KEY_LIMIT)
            for key in reader.bounded(item.cause_dedup_keys, f"{name}.causes", CAUSES_LIMIT)
        ),
    )


def _cleared_at(item: finding_pb2.Finding, name: str, reader: Reader) -> float | None:
    if item.state != finding_pb2.FINDING_STATE_CLEARED:
        return None
    return reader.at(item.cleared_at, f"{name}.cleared_at")


def _subject(item: finding_pb2.Subject, node: str, reader: Reader) -> Subject:
    def text(name: str) -> str:
        return reader.text(getattr(item, name), f"subject.{name}")

    return Subject(
        node=node,
        gpu_uuid=text("gpu_uuid"),
        gpu_serial=text("gpu_serial"),
        process_key=text("process_key"),
        pid=item.pid,
        unit=text("unit"),
        pod=text("pod"),
        container=text("container"),
        engine=text("engine"),
        model=text("model"),
        service=text("service"),
        endpoint=text("endpoint"),
    )


def _evidence(fact: finding_pb2.Evidence, name: str, reader: Reader) -> Evidence:
    where = f"{name}.evidence"
    bound = 1e300
    threshold = (
        reader.number(fact.threshold, f"{where}.threshold", -bound, bound)
        if fact.HasField("threshold")
        else None
    )
    return Evidence(
        name=reader.text(fact.name, f"{where}.name"),
        value=reader.number(fact.value, f"{where}.value", -bound, bound),
        unit=reader.text(fact.unit, f"{where}.unit", 32),
        threshold=threshold,
        text=reader.text(fact.text, f"{where}.text", TEXT_LIMIT),
        observed_at_s=(
            reader.at(fact.observed_at, f"{where}.observed_at")
            if fact.HasField("observed_at")
            else None
        ),
        source=reader.text(fact.source, f"{where}.source", 64),
    )
