"""The JSON API: what the `gpuward incidents` command and other programs use.

Errors are ``{"error": "one sentence"}`` with the status that says whose fault it is.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from gpuward.coordinator.cause import causes_of
from gpuward.coordinator.incident import Refused
from gpuward.coordinator.review import NotDue, draft, markdown
from gpuward.coordinator.review.wording import describe
from gpuward.coordinator.store import Conflict, NotFound
from gpuward.coordinator.told_once import merged
from gpuward.coordinator.web import memory_maps
from gpuward.coordinator.web.context import context, person_command
from gpuward.coordinator.web.guard import check_origin, read_body
from gpuward.coordinator.web.quantity import quantity
from gpuward.coordinator.web.views import next_step, upcoming

if TYPE_CHECKING:
    from starlette.requests import Request

    from gpuward.coordinator.events import TimelineEntry
    from gpuward.coordinator.model import Evidence, Finding, Incident, Step
    from gpuward.coordinator.store import Record
    from gpuward.coordinator.web.context import Context

T = TypeVar("T")


class Act(msgspec.Struct, forbid_unknown_fields=True):
    """Body of an acknowledgement or a resolution; ``version`` as the caller last saw it."""

    by: str
    note: str = ""
    version: int | None = None


async def list_incidents(request: Request) -> Response:
    """Answer every open incident and the newest resolved ones, newest first.

    With ``?gpu=``, a UUID or a serial, those of that card, whatever their state.
    """
    shared = context(request)
    incidents = await shared.incidents(request)
    steps = await shared.steps(i for i in incidents if i.is_open)
    rows = [_incident(i, steps.get(i.id, ()), shared) for i in incidents]
    return json_response({"incidents": rows})


async def get_incident(request: Request) -> Response:
    """Answer everything about one incident."""
    shared = context(request)
    return json_response(_record(await shared.record(request), shared))


async def get_memory_maps(request: Request) -> Response:
    """Answer the memory maps of an incident, and why there is none where there is none."""
    shared = context(request)
    record = await shared.record(request)
    maps = await shared.memory_maps(record)
    return json_response({"memory_maps": [memory_maps.as_json(request) for request in maps]})


async def get_review(request: Request) -> Response:
    """Answer the draft as Markdown; 404 with the reason when none is due."""
    record = await context(request).record(request)
    review = draft(record.incident, record.timeline)
    if isinstance(review, NotDue):
        raise HTTPException(404, review.reason)
    return PlainTextResponse(markdown(review), media_type="text/markdown; charset=utf-8")


async def acknowledge(request: Request) -> Response:
    """Stop what waits for an acknowledgement."""
    return await _act(request, "ack")


async def resolve(request: Request) -> Response:
    """End the incident and every step of it."""
    return await _act(request, "resolve")


async def _act(request: Request, verb: str) -> Response:
    shared = context(request)
    check_program(request, shared)
    act = decode(await read_body(request), Act)
    incident_id = request.path_params["id"]
    submitted = await shared.store.submit(
        incident_id,
        person_command(verb, act.by, act.note),
        now_s=shared.clock.wall_s(),
        expected_version=act.version,
    )
    match submitted:
        case NotFound():
            raise HTTPException(404, f"there is no incident {incident_id}")
        case Refused(reason):
            raise HTTPException(409, f"incident {incident_id}: {reason}")
        case Conflict(incident):
            changed = f"it is at version {incident.version} now, not {act.version}"
            raise HTTPException(409, f"incident {incident_id} has changed: {changed}")
        case _:
            return json_response(_record(await shared.record(request), shared))


def json_response(value: Any, status: int = 200) -> Response:
    """Return ``value`` as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def check_program(request: Request, shared: Context) -> None:
    """Raise 403 or 415 where a page of another site may have sent ``request``."""
    check_origin(request, shared.url)
    # A browser asks first (preflight) before it sends this type to another site.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send application/json")


def decode(body: bytes, kind: type[T]) -> T:
    """Return the body as a ``kind``; raises 400."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"the body is not as it should be: {error}") from error


def _incident(incident: Incident, steps: tuple[Step, ...], shared: Context) -> dict[str, Any]:
    """Return the incident's fields, who is paged next, and the probable cause."""
    after = next_step(upcoming(incident, steps, shared.policy, shared.roster))
    return {
        **asdict(incident),
        "began_at_s": incident.began_s,
        "severity": incident.severity.name,
        "peak_severity": incident.peak_severity.name,
        "probable_cause": next(iter(causes_of(incident)), None),
        "next_page": after
        and {"level": after.level, "due_at_s": after.due_at_s, "people": after.people},
    }


def _record(record: Record, shared: Context) -> dict[str, Any]:
    return {
        **_incident(record.incident, record.steps, shared),
        "timeline": [_entry(entry) for entry in record.timeline],
        "evidence": [_finding(finding) for finding in merged(record.findings)],
        "steps": record.steps,
        "pages": record.pages,
    }


def _entry(entry: TimelineEntry) -> dict[str, Any]:
    """Return a timeline entry with the sentence that the page shows for it."""
    text = describe(entry.event, lambda name: name)
    return {"seq": entry.seq, "at_s": entry.at_s, "text": text, "event": entry.event}


def _finding(finding: Finding) -> dict[str, Any]:
    """Return a finding whose figures are also written for people."""
    return {**asdict(finding), "evidence": [_evidence(fact) for fact in finding.evidence]}


def _evidence(fact: Evidence) -> dict[str, Any]:
    limit = fact.threshold
    return {
        **asdict(fact),
        "value_text": quantity(fact.value, fact.unit) if fact.unit else "",
        "threshold_text": quantity(limit, fact.unit) if fact.unit and limit is not None else "",
    }
