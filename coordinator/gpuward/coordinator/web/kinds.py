"""How loud kinds of findings are: on a page and in the API, changed through the API alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException

from gpuward.coordinator import store_kinds, store_reports
from gpuward.coordinator.kind_classes import Override, Verb, nearest, next_class
from gpuward.coordinator.known_kinds import default_classes
from gpuward.coordinator.model import FindingClass  # noqa: TC001 - msgspec reads it
from gpuward.coordinator.web import pages
from gpuward.coordinator.web.api import check_program, decode, json_response
from gpuward.coordinator.web.context import context, person_command
from gpuward.coordinator.web.guard import read_body

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from gpuward.coordinator.web.context import Context


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a change; without ``to``, one step louder or quieter than the kind is told now."""

    verb: Verb
    by: str
    to: FindingClass | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A kind: what agents say (``None`` where only a newer agent knows), and what counts."""

    kind: str
    default: FindingClass | None
    told: FindingClass | None
    override: Override | None


async def list_kinds(request: Request) -> Response:
    """Answer every kind, and every change that was ever made, newest first."""
    rows, history = await _load(context(request))
    return json_response({"kinds": list(map(asdict, rows)), "history": list(map(asdict, history))})


async def show_kinds(request: Request) -> Response:
    """Show the same to people."""
    rows, history = await _load(context(request))
    return pages.page(request, "kinds.html", kinds=rows, history=history)


async def change_kind(request: Request) -> Response:
    """Promote, demote or reset a kind, and answer what it is now."""
    shared = context(request)
    check_program(request, shared)
    change = decode(await read_body(request), Change)
    kind = request.path_params["kind"]
    rows = {row.kind: row for row in (await _load(shared))[0]}
    if kind not in rows:
        meant = nearest(kind, rows)
        hint = f": did you mean {' or '.join(meant)}?" if meant else ""
        raise HTTPException(404, f"there is no kind {kind!r}{hint}")
    # Who and why obey the rules of every other act of a person.
    person = person_command("ack", change.by, change.reason)
    override = Override(
        kind=kind,
        verb=change.verb,
        told=_told(rows[kind], change),
        by=person.by,
        reason=person.note,
        at_s=shared.clock.wall_s(),
    )
    async with shared.store.writing() as tx:
        await store_kinds.add(tx.connection, override)
    after = {row.kind: row for row in (await _load(shared))[0]}
    return json_response(asdict(after[kind]))


def _told(row: Row, change: Change) -> FindingClass | None:
    if change.verb is Verb.RESET:
        if change.to is not None:
            raise HTTPException(400, "a reset goes back to what agents say: it takes no 'to'")
        return None
    if change.to is not None:
        return change.to
    told = None if row.told is None else next_class(row.told, change.verb)
    if told is None:
        now = "as a newer agent says" if row.told is None else f"{row.told} already"
        raise HTTPException(400, f"{row.kind} is told {now}: say to which class, with 'to'")
    return told


async def _load(shared: Context) -> tuple[tuple[Row, ...], tuple[Override, ...]]:
    async with shared.store.reading() as connection:
        overrides = await store_kinds.load(connection)
        history = await store_kinds.load_history(connection)
        seen = {finding.kind for finding in await store_reports.load_open_findings(connection)}
    defaults = default_classes()
    kinds = sorted({*defaults, *overrides, *seen})
    return tuple(_row(kind, defaults.get(kind), overrides.get(kind)) for kind in kinds), history


def _row(kind: str, default: FindingClass | None, override: Override | None) -> Row:
    told = default
    if override is not None:
        told = override.told if default is None else override.class_of(default)
    return Row(kind, default, told, override)
