"""Turn messages from agents into values: untrusted, so bounded and checked, field by field.

What cannot be used at all raises ``BadMessage``.  What is merely odd (a time in the next century,
an enum value from a newer agent, a name of a megabyte) is mended, and a note says so: a strange
field must not cost a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.coordinator.model import Finding, ServiceTotals
from gpuward.coordinator.reader import AHEAD_S, ID_LIMIT, INTEGER_LIMIT, NAME_LIMIT, Reader
from gpuward.coordinator.report import Report
from gpuward.coordinator.wire_finding import finding_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from gpuward.coordinator.wire_finding import Known
    from gpuward.v1 import coordinator_pb2, report_pb2

PROTOCOL_REVISION = 1

# Lengths: columns of the store, and what a person can read.
ADDRESS_LIMIT = 512
FINDINGS_LIMIT = 1_000
EVENTS_LIMIT = 500
TOTALS_LIMIT = 500


class BadMessage(Exception):  # noqa: N818 - it names a condition
    """A message that cannot be used; the text is one line for the agent's log."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who is at the other end of a session."""

    node: str
    boot_id: str
    agent_version: str
    query_address: str


def hello_from(message: coordinator_pb2.Hello, reader: Reader) -> Hello:
    """Return who calls; raises ``BadMessage`` for another protocol or a nameless node."""
    if message.protocol_revision != PROTOCOL_REVISION:
        raise BadMessage(
            f"agent {message.agent_version[:ID_LIMIT]!r} speaks protocol revision"
            f" {message.protocol_revision}, this coordinator {PROTOCOL_REVISION}:"
            " install the same version of gpuward on both"
        )
    return Hello(
        node=_node(message.node),
        boot_id=reader.text(message.boot_id, "boot_id", 64),
        agent_version=reader.text(message.agent_version, "agent_version", 64),
        query_address=reader.text(message.query_address, "query_address", ADDRESS_LIMIT),
    )


def report_from(message: report_pb2.Report, node: str, reader: Reader, known: Known) -> Report:
    """Return the report of ``node``, whose session it is; raises ``BadMessage``.

    ``known``: of the same session.
    """
    if message.node != node:
        raise BadMessage(f"session of node {node!r} sent a report of {message.node[:NAME_LIMIT]!r}")
    if not 0 < message.seq <= INTEGER_LIMIT:
        raise BadMessage(f"report.seq: {message.seq} is not within 1..{INTEGER_LIMIT}")
    if not 0 < len(message.agent_instance) <= ID_LIMIT:
        raise BadMessage(f"report.agent_instance: not 1 to {ID_LIMIT} characters long")
    findings, sights = known.findings(
        reader.bounded(message.findings, "findings", FINDINGS_LIMIT), node, reader
    )
    return Report(
        node=node,
        boot_id=reader.text(message.boot_id, "boot_id", 64),
        agent_instance=message.agent_instance,
        seq=message.seq,
        at_s=reader.at(message.at, "at"),
        findings=findings,
        events=_events(message, node, reader),
        service_totals=_totals(message.service_totals, node, reader),
        sights=sights,
    )


def drain_until(message: coordinator_pb2.Drain, reader: Reader) -> float | None:
    """Return until when the node will be away, at most a day; ``None`` when it does not say."""
    if not message.HasField("until"):
        return None
    until_s = message.until.seconds + message.until.nanos / 1e9
    return reader.number(until_s, "drain.until", reader.now_s, reader.now_s + 86_400.0)


def _node(name: str) -> str:
    if not name or len(name) > NAME_LIMIT or not name.isprintable():
        raise BadMessage(f"node: not a name of 1 to {NAME_LIMIT} printable characters")
    return name


def _events(
    message: report_pb2.Report, node: str, reader: Reader
) -> tuple[tuple[int, Finding], ...]:
    events = []
    for item in reader.bounded(message.events, "events", EVENTS_LIMIT):
        finding = finding_from(item.finding, node, reader)
        if finding is not None and item.seq <= INTEGER_LIMIT:
            events.append((item.seq, finding))
    return tuple(events)


def _totals(
    items: Sequence[report_pb2.ServiceTotals], node: str, reader: Reader
) -> tuple[ServiceTotals, ...]:
    listed = reader.bounded(items, "service_totals", TOTALS_LIMIT)
    return tuple(_service_totals(item, node, reader) for item in listed if item.service)


def _service_totals(item: report_pb2.ServiceTotals, node: str, reader: Reader) -> ServiceTotals:
    service = reader.text(item.service, "service_totals.service")
    return ServiceTotals(
        service=service,
        instance=reader.text(item.instance, "service_totals.instance") or node,
        node=node,
        started_at_s=_past(item.started_at, f"{service}.started_at", reader),
        observed_at_s=reader.at(item.observed_at, f"{service}.observed_at"),
        received_at_s=reader.now_s,
        requests=min(item.requests, INTEGER_LIMIT),
        failed=min(item.failed, INTEGER_LIMIT),
        timed_out=min(item.timed_out, INTEGER_LIMIT),
        over_objective=min(item.over_objective, INTEGER_LIMIT),
        tokens=min(item.tokens, INTEGER_LIMIT),
        ready=item.ready,
        waiting=item.waiting,
        running=item.running,
        model=reader.text(item.model, "service_totals.model"),
        version=reader.text(item.version, "service_totals.version"),
        previous_model=reader.text(item.previous_model, "service_totals.previous_model"),
        previous_version=reader.text(item.previous_version, "service_totals.previous_version"),
        changed_at_s=_past(item.changed_at, f"{service}.changed_at", reader),
    )


def _past(at: Timestamp, name: str, reader: Reader) -> float:
    """Return the time of a start, 0 where it is not told or absurd.

    Never the time of arrival: a start that moves with every report would count all requests anew.
    """
    seconds = at.seconds + at.nanos / 1e9
    if 0 <= seconds <= reader.now_s + AHEAD_S:
        return seconds
    reader.note(f"{name}: {seconds:.0f} is absurd, taken as unknown")
    return 0.0
