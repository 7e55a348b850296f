"""The web application: routes, and what a failure looks like on each side.

Programs under ``/api/`` get JSON, people get a page; nothing shows a traceback.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gpuward.coordinator.readiness import Readiness
from gpuward.coordinator.web import api, kinds, pages
from gpuward.coordinator.web.context import Context
from gpuward.coordinator.web.guard import SecurityHeaders
from gpuward.memory_map import svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from gpuward.coordinator.escalation import PolicyStep
    from gpuward.coordinator.oncall import Roster
    from gpuward.coordinator.store import Store
    from gpuward.daemon.clock import Clock

ROUTES = (
    Route("/", pages.list_incidents),
    Route("/incidents/{id}", pages.show_incident),
    Route("/incidents/{id}/ack", pages.acknowledge, methods=["POST"]),
    Route("/incidents/{id}/resolve", pages.resolve, methods=["POST"]),
    Route("/incidents/{id}/memory-maps", pages.ask_for_map, methods=["POST"]),
    Route("/incidents/{id}/review", pages.show_review),
    Route("/kinds", kinds.show_kinds),
    Route("/api/v1/kinds", kinds.list_kinds),
    Route("/api/v1/kinds/{kind}", kinds.change_kind, methods=["POST"]),
    Route("/api/v1/incidents", api.list_incidents),
    Route("/api/v1/incidents/{id}", api.get_incident),
    Route("/api/v1/incidents/{id}/ack", api.acknowledge, methods=["POST"]),
    Route("/api/v1/incidents/{id}/resolve", api.resolve, methods=["POST"]),
    Route("/api/v1/incidents/{id}/memory-maps", api.get_memory_maps),
    Route("/api/v1/incidents/{id}/review", api.get_review),
)


def create_app(
    store: Store,
    clock: Clock,
    *,
    roster: Roster,
    policy: Sequence[PolicyStep],
    speed: float = 1.0,
    url: str = "",
) -> Starlette:
    """Return the application; ``roster``, ``policy`` and ``speed`` are those of the escalation.

    ``url``: how people reach it, as configured; browsers that come by another name may only read.
    """
    app = Starlette(
        routes=[
            *ROUTES,
            Route("/healthz", _healthz),
            Route("/readyz", _readyz),
            Route("/memory-map.css", _memory_map_style),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={
            HTTPException: _on_http_error,
            SQLAlchemyError: _on_store_error,
            Exception: _on_bug,
        },
    )
    app.state.context = Context(store, clock, roster, policy, speed, url)
    app.state.readiness = Readiness(store, clock)
    app.state.templates = pages.environment()
    return app


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _memory_map_style(_: Request) -> Response:
    """Answer what gives the pictures of memory maps their colours, in a page as in a file."""
    return Response(svg.STYLE, media_type="text/css")


async def _readyz(request: Request) -> Response:
    """Answer 200 while the database can be written, else 503 and why not."""
    readiness: Readiness = request.app.state.readiness
    if trouble := await readiness.trouble():
        return PlainTextResponse(f"{trouble}\n", 503)
    return PlainTextResponse("ready\n")


async def _on_http_error(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    said = str(getattr(error, "detail", ""))
    response = _failure(request, status, said)
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _on_store_error(request: Request, _: Exception) -> Response:
    return _failure(request, 503, "the database does not answer: try again")


async def _on_bug(request: Request, _: Exception) -> Response:
    return _failure(request, 500, "this is a bug; the coordinator's log says more")


def _failure(request: Request, status: int, text: str) -> Response:
    if request.url.path.startswith("/api/"):
        return api.json_response({"error": text}, status)
    title = HTTPStatus(status).phrase
    return pages.message(request, status, title, "" if text == title else text)
