"""Turn findings from agents into values: bounded, checked, mended; see ``wire``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

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
from gpuward.coordinator.report import Sight
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


class _Read(NamedTuple):
    """``finding``, as it was read from ``said``, a message without when and how often."""

    said: finding_pb2.Finding
    finding: Finding


class Known:
    """The findings of a session's last report: what they say again need not be read again.

    Nineteen of twenty differ from the ones before in when and how often they were seen.
    """

    def __init__(self) -> None:
        self._read: dict[str, _Read] = {}

    def findings(
        self, items: Sequence[finding_pb2.Finding], node: str, reader: Reader
    ) -> tuple[tuple[Finding, ...], dict[str, Sight]]:
        """Return the findings that ``items`` are, without those that have no identity.

        A finding that says nothing new is the one of the report before; of all of them the second
        part tells, by id, how they were last seen.
        """
        read: dict[str, _Read] = {}
        # One finding a raise: of a doubled id the last word stands.
        seen: dict[str, tuple[Finding, Sight]] = {}
        for item in items:
            since_s, sight = _seen(item, reader)
            # What is left is what the finding says; the message is ours.
            item.ClearField("last_seen")
            item.ClearField("count")
            known = self._read.get(item.finding_id)
            if known is None or known.said != item or known.finding.since_s != since_s:
                known = _first_read(item, _finding(item, since_s, sight, node, reader))
            if known is not None:
                read[item.finding_id] = known
                seen[known.finding.finding_id] = known.finding, sight
        self._read = read
        findings = tuple([finding for finding, _ in seen.values()])
        return findings, {finding_id: sight for finding_id, (_, sight) in seen.items()}


def _first_read(item: finding_pb2.Finding, finding: Finding | None) -> _Read | None:
    if finding is None:
        return None
    # A copy: a part of a message keeps the whole of it in memory.
    said = finding_pb2.Finding()
    said.CopyFrom(item)
    return _Read(said, finding)


def _seen(item: finding_pb2.Finding, reader: Reader) -> tuple[float, Sight]:
    """Return since when, and when last and how often the finding was seen."""
    at_s = reader.at(item.last_seen, "finding.last_seen")
    since_s = min(reader.at(item.since, "finding.since"), at_s)
    return since_s, Sight(at_s, max(1, min(item.count, INTEGER_LIMIT)))


def finding_from(item: finding_pb2.Finding, node: str, reader: Reader) -> Finding | None:
    """Return the finding; ``None``, with a note, for one that has no usable identity."""
    since_s, sight = _seen(item, reader)
    return _finding(item, since_s, sight, node, reader)


def _finding(
    item: finding_pb2.Finding, since_s: float, sight: Sight, node: str, reader: Reader
) -> Finding | None:
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
        since_s=since_s,
        last_seen_s=sight.last_seen_s,
        domain=reader.one_of(
            DOMAINS, item.cause_domain, CauseDomain.CAPACITY, f"{name}.cause_domain"
        ),
        result=reader.one_of(RESULTS, item.result, Result.UNKNOWN, f"{name}.result"),
        code=item.code,
        cleared_at_s=_cleared_at(item, name, reader),
        count=sight.times,
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
