"""The web pages: rendered here, complete without JavaScript, live with a little of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gpuward.coordinator import events as e
from gpuward.coordinator import store_maps
from gpuward.coordinator.cause import causes_of
from gpuward.coordinator.incident import Refused, fold
from gpuward.coordinator.review import NotDue, draft
from gpuward.coordinator.review.wording import describe, duration, moment, sentence, utc
from gpuward.coordinator.store import Conflict, NotFound
from gpuward.coordinator.told_once import merged
from gpuward.coordinator.web import guard, memory_maps, views
from gpuward.coordinator.web.context import context, person_command
from gpuward.coordinator.web.quantity import quantity
from gpuward.memory_map.text import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from gpuward.coordinator.model import Incident, LinkedFinding
    from gpuward.coordinator.store import Record, Submitted
    from gpuward.coordinator.web.context import Context

NAME_COOKIE = "gpuward_name"
YEAR_S = 365 * 86400
RESOLVED_SHOWN = 20
# A service has a verdict for each of its replicas.
CAUSES_SHOWN = 20
EVIDENCE_SHOWN = 8
# How often a command is tried again when nothing that matters to its giver has changed.
TRIES = 3
# What a reader looks for first in a long timeline.
KEY_EVENTS = (
    e.Opened,
    e.SeverityChanged,
    e.Diagnosed,
    e.Acknowledged,
    e.Mitigated,
    e.Resolved,
    e.ImpactBegan,
)


def environment() -> Environment:
    """Return the templates: everything is escaped, and a missing name is an error."""
    found = Environment(
        loader=PackageLoader("gpuward.coordinator.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    found.filters.update(
        breakable=lambda name: escape(name).replace("_", Markup("_<wbr>")),
        clock=lambda at_s: moment(at_s).strftime("%H:%M:%S"),
        delivery=views.delivery,
        describe=lambda event: describe(event, lambda name: name),
        duration=duration,
        facts=views.facts,
        is_key=lambda event: isinstance(event, KEY_EVENTS),
        iso=lambda at_s: moment(at_s).isoformat(timespec="seconds"),
        quantity=quantity,
        sentence=sentence,
        size=size_text,
        utc=utc,
    )
    return found


async def list_incidents(request: Request) -> Response:
    """Show what is open, worst first, and what is over; with ``?gpu=`` all of one card."""
    shared = context(request)
    incidents = await shared.incidents(request, RESOLVED_SHOWN)
    waiting = [incident for incident in incidents if incident.is_open]
    waiting.sort(key=lambda i: (i.severity, -i.opened_at_s))
    steps = await shared.steps(waiting)
    return page(
        request,
        "incidents.html",
        gpu=request.query_params.get("gpu", ""),
        open=[_row(shared, i, steps[i.id]) for i in waiting if not views.told_by(i, waiting)],
        told=[_row(shared, i, steps[i.id]) for i in waiting if views.told_by(i, waiting)],
        over=[_row(shared, i, ()) for i in incidents if not i.is_open],
    )


def _row(shared: Context, incident: Incident, steps: Sequence[Any]) -> dict[str, Any]:
    after = views.upcoming(incident, steps, shared.policy, shared.roster)
    return {
        "incident": incident,
        "cause": views.cause_words(incident),
        "next": views.next_step(after),
    }


async def show_incident(request: Request) -> Response:
    """Show one incident: what users feel, why, what happened, who is paged, two buttons."""
    shared = context(request)
    record = await shared.record(request)
    token = guard.csrf_token(request)
    name = unquote(request.cookies.get(NAME_COOKIE, ""))
    facts = await _facts(shared, record)
    maps = await shared.memory_maps(record)
    facts["memory"] = memory_maps.overview(record, maps, shared.clock.wall_s())
    response = page(request, "incident.html", csrf=token, name=name, **facts)
    guard.set_csrf(request, response, token)
    return response


async def _facts(shared: Context, record: Record) -> dict[str, Any]:
    incident, now_s = record.incident, shared.clock.wall_s()
    steps = views.upcoming(incident, record.steps, shared.policy, shared.roster)
    impact = await shared.impact(incident)
    causes = causes_of(incident)
    return {
        "incident": incident,
        "entries": record.timeline,
        "findings": {finding.dedup_key: finding for finding in merged(record.findings)},
        "has_evidence": any(finding.evidence for finding in record.findings),
        "causes": [_fresh(linked, record) for linked in causes[:CAUSES_SHOWN]],
        "more_causes": max(0, len(causes) - CAUSES_SHOWN),
        "evidence_shown": EVIDENCE_SHOWN,
        "diagnosis": incident.diagnosis,
        "grounds": views.grounds(incident),
        "relation": views.RELATION,
        "feeling": views.feeling(incident, now_s),
        "figures": [*views.figures(incident, impact, now_s, window_s=shared.window_s)],
        "steps": steps,
        "next_step": views.next_step(steps),
        "pages": record.pages,
        "has_review": not isinstance(draft(incident, record.timeline), NotDue),
    }


def _fresh(linked: LinkedFinding, record: Record) -> LinkedFinding:
    """Return ``linked`` as its last report has it: figures move on."""
    found = next((f for f in record.findings if f.finding_id == linked.finding_id), None)
    if found is None:
        return linked
    return replace(linked, summary=found.summary, confidence=found.confidence)


async def show_review(request: Request) -> Response:
    """Show the review draft, or why there is none."""
    record = await context(request).record(request)
    review = draft(record.incident, record.timeline)
    if isinstance(review, NotDue):
        return message(request, 404, "No review", review.reason, incident_id=record.incident.id)
    return page(request, "review.html", review=review)


async def acknowledge(request: Request) -> Response:
    """Stop what waits for an acknowledgement."""
    return await _act(request, "ack")


async def resolve(request: Request) -> Response:
    """End the incident and every step of it."""
    return await _act(request, "resolve")


async def ask_for_map(request: Request) -> Response:
    """Have a process asked for a fresh memory map; the page shows it when it is there."""
    shared = context(request)
    guard.check_origin(request, shared.url)
    form = _form(await guard.read_body(request))
    guard.check_csrf(request, form.get("csrf", ""))
    record = await shared.record(request)
    incident = record.incident
    if _has_gone_stale(record, _version(form)):
        title = "The incident has changed"
        return message(request, 409, title, _stale(incident), incident_id=incident.id)
    now_s = shared.clock.wall_s()
    async with shared.store.writing() as tx:
        process_id = form.get("process", "")
        asked = await store_maps.ask_again(tx.connection, incident.id, process_id, now_s)
    match asked:
        case store_maps.Unknown():
            text = "Nothing was asked: the incident is over, or it has no such process"
            return message(request, 409, "Not possible now", text, incident_id=incident.id)
        case store_maps.TooSoon(after_s):
            text = (
                "Nothing was asked: a map stops the process for some milliseconds, and it was"
                f" asked a moment ago. Ask again in {duration(after_s + 0.5)}"
            )
            return message(request, 429, "Asked a moment ago", text, incident_id=incident.id)
    return RedirectResponse(f"/incidents/{quote(incident.id)}#memory", 303)


async def _act(request: Request, verb: str) -> Response:
    shared = context(request)
    guard.check_origin(request, shared.url)
    form = _form(await guard.read_body(request))
    guard.check_csrf(request, form.get("csrf", ""))
    incident_id = request.path_params["id"]
    command = person_command(verb, form.get("by", ""), form.get("note", ""))
    submitted = await _submit(shared, incident_id, command, _version(form))
    match submitted:
        case NotFound():
            raise HTTPException(404, f"there is no incident {incident_id}")
        case Refused(reason):
            text = f"Nothing was done: {reason}"
            return message(request, 409, "Not possible now", text, incident_id=incident_id)
        case Conflict(incident):
            return message(
                request, 409, "The incident has changed", _stale(incident), incident_id=incident_id
            )
    response = RedirectResponse(f"/incidents/{quote(incident_id)}", 303)
    response.set_cookie(
        NAME_COOKIE, quote(command.by), max_age=YEAR_S, httponly=True, samesite="strict"
    )
    return response


async def _submit(
    shared: Context, incident_id: str, command: e.Acknowledge | e.Resolve, seen: int
) -> Submitted:
    """Carry out ``command`` unless what its giver saw has changed in a way that matters.

    Every page that goes out counts a version; a button must not go stale for that.
    """
    expected = seen
    for _ in range(TRIES):
        submitted = await shared.store.submit(
            incident_id, command, now_s=shared.clock.wall_s(), expected_version=expected
        )
        if not isinstance(submitted, Conflict):
            return submitted
        record = await shared.store.get_incident(incident_id)
        if record is None or _has_gone_stale(record, seen):
            return submitted
        expected = record.incident.version
    return submitted


def _has_gone_stale(record: Record, seen: int) -> bool:
    """Whether what matters is no longer as in version ``seen``, or nobody can have seen that."""
    if not 0 < seen <= len(record.timeline):
        return True
    before = fold(record.incident.id, record.timeline[:seen])
    return _what_matters(before) != _what_matters(record.incident)


def _what_matters(incident: Incident) -> tuple[Any, ...]:
    return incident.state, incident.severity, incident.rotation, incident.acknowledged_by


def _stale(incident: Incident) -> str:
    by = f" by {incident.acknowledged_by}" if incident.acknowledged_by else ""
    return (
        "Nothing was done, because the page you pressed the button on was out of date."
        f" The incident is now {incident.severity.name}, {incident.state}{by},"
        f" with the {incident.rotation} rotation"
    )


def _form(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise HTTPException(400, "the form cannot be read") from error
    return {name: values[-1] for name, values in fields.items()}


def _version(form: dict[str, str]) -> int:
    try:
        return int(form.get("version", ""))
    except ValueError as error:
        raise HTTPException(400, "the form does not say which version was seen") from error


def message(
    request: Request, status: int, title: str, text: str, *, incident_id: str = ""
) -> Response:
    """Return a page that says one thing and leads back."""
    back = f"/incidents/{quote(incident_id)}" if incident_id else "/"
    words = "Back to the incident" if incident_id else "All incidents"
    text = text[:1].upper() + text[1:]
    return page(
        request, "message.html", status, title=title, text=text, back=back, back_words=words
    )


def page(request: Request, template: str, status: int = 200, /, **values: Any) -> Response:
    """Return ``template`` filled with ``values`` and with the time."""
    templates: Environment = request.app.state.templates
    now_s = context(request).clock.wall_s()
    return HTMLResponse(templates.get_template(template).render(now_s=now_s, **values), status)
