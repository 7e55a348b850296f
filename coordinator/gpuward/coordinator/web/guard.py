"""What every answer and every form has to pass: headers, origin, size, and the forgery token.

A page of another site must not be able to acknowledge an incident through the browser of somebody
on call.  A form carries the token of its cookie (double submit), and a browser says in
``Sec-Fetch-Site`` or ``Origin`` who is asking; a program that sends neither is no browser.
"""

from __future__ import annotations

import hmac
import secrets
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT_BYTES = 16 * 1024
CSRF_COOKIE = "gpuward_csrf"
TOKEN_BYTES = 24

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class SecurityHeaders:
    """Adds ``HEADERS`` to every answer, and ``no-store`` where nothing else is said."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", _caching(scope))
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _caching(scope: Scope) -> str:
    return "no-cache" if scope.get("path", "").startswith("/static/") else "no-store"


async def read_body(request: Request) -> bytes:
    """Return the body; raises 413 as soon as it is longer than ``BODY_LIMIT_BYTES``."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            raise HTTPException(413, f"the body is longer than {BODY_LIMIT_BYTES} bytes")
    return bytes(body)


def check_origin(request: Request, own_url: str) -> None:
    """Raise 403 when a browser says that another site is asking.

    A name that another site has made to resolve to us (DNS rebinding) is of the same origin to a
    browser, so a browser must have come by an address, by localhost, or by ``own_url``.
    """
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if site not in {"same-origin", "none"} or foreign:
        raise HTTPException(403, "the request comes from another site")
    host = request.url.hostname or ""
    if origin is not None and not _is_own(host, own_url):
        raise HTTPException(403, f"{host} is no name of this coordinator: set http.url")


def _is_own(host: str, own_url: str) -> bool:
    if host in {"localhost", urlsplit(own_url).hostname}:
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def csrf_token(request: Request) -> str:
    """Return the token of this browser: the one it has, or a new one."""
    known = request.cookies.get(CSRF_COOKIE, "")
    return known if len(known) >= TOKEN_BYTES else secrets.token_urlsafe(TOKEN_BYTES)


def set_csrf(request: Request, response: Response, token: str) -> None:
    """Give the browser ``token``, unless it has it."""
    if request.cookies.get(CSRF_COOKIE) != token:
        response.set_cookie(
            CSRF_COOKIE,
            token,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )


def check_csrf(request: Request, token: str) -> None:
    """Raise 403 unless a form's ``token`` is the one of the browser's cookie."""
    known = request.cookies.get(CSRF_COOKIE, "")
    if not known or not hmac.compare_digest(known.encode(), token.encode()):
        raise HTTPException(403, "the form is not from this browser's page: open it again")
