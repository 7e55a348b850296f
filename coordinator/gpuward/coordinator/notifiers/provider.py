"""Talk to a provider over HTTP as if it were hostile: bounded answers, no redirect, a pace.

The secret travels in a header or a body to the configured host and nowhere else: a redirect is an
answer like any other, and what an error says never has a header in it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx2
import msgspec

from gpuward.coordinator.page import Outcome, Refused, Retry, Sent
from gpuward.coordinator.version import installed_version
from gpuward.daemon.config import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from gpuward.daemon.clock import Clock

T = TypeVar("T")
TIMEOUT_S = 10.0
# Far above what any provider answers to us, far below what would hurt.
ANSWER_LIMIT = 1 << 20
# 408 and 429 ask to come back; every other 4xx is about this very request.
COME_BACK = frozenset({408, 429})
# A provider that asks for longer is asked again anyway: a page must not wait for a day.
RETRY_AFTER_LIMIT_S = 300.0
# What a provider says of itself is for a timeline, not for a page of its own.
REASON_LIMIT = 200
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``body`` ends at ``ANSWER_LIMIT``."""

    status: int
    body: bytes
    retry_after: str = ""

    def read(self, kind: type[T]) -> T | None:
        """Return the JSON body as ``kind``; ``None`` where it is anything else."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return None


class Pace:
    """At most ``calls`` within any ``per_s``, and none while the provider wants a pause."""

    def __init__(self, calls: int, per_s: float, clock: Clock) -> None:
        self._calls = calls
        self._per_s = per_s
        self._clock = clock
        self._taken: deque[float] = deque(maxlen=calls)
        self._paused_until_s = 0.0
        self._waiting = 0

    def take(self) -> float:
        """Take a turn and return 0, or return in how many seconds to ask again.

        Those who are sent away at the same time are told different times.
        """
        now_s = self._clock.mono_s()
        free_s = self._paused_until_s
        if len(self._taken) == self._calls:
            free_s = max(free_s, self._taken[0] + self._per_s)
        if free_s <= now_s:
            self._taken.append(now_s)
            self._waiting = 0
            return 0.0
        turn_s = self._waiting * self._per_s / self._calls
        self._waiting += 1
        return free_s - now_s + turn_s

    def pause(self, for_s: float) -> None:
        """Take no turn for ``for_s``: the provider said so to one, and means all."""
        self._paused_until_s = max(self._paused_until_s, self._clock.mono_s() + for_s)


class Provider:
    """One API under ``url``; every request carries ``headers``."""

    def __init__(self, url: str, headers: Mapping[str, str], pace: Pace) -> None:
        self._url = url.rstrip("/")
        self._pace = pace
        # What is not compressed cannot grow while it is unpacked.
        every = {
            "user-agent": f"gpuward/{installed_version()}",
            "accept-encoding": "identity",
            **headers,
        }
        self._client = httpx2.AsyncClient(
            timeout=TIMEOUT_S, follow_redirects=False, headers=every, verify=trusted()
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer | Retry:
        """Return the answer, whatever its status; ``Retry`` where there was none."""
        if wait_s := self._pace.take():
            return Retry("its limit of calls is reached", wait_s)
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"content-type": "application/json"}
        try:
            async with self._client.stream(
                method, f"{self._url}{path}", content=content, params=query, headers=headers
            ) as response:
                answer = Answer(
                    response.status_code,
                    await _beginning(response),
                    response.headers.get("retry-after", ""),
                )
        except httpx2.HTTPError as error:
            return Retry(f"{type(error).__name__}: {error}")
        if answer.status == httpx2.codes.TOO_MANY_REQUESTS:
            self._pace.pause(retry_after_s(answer.retry_after) or 0.0)
        return answer

    async def read(self, path: str, kind: type[T], query: Mapping[str, str]) -> T | Retry | Refused:
        """Return what is at ``path`` as ``kind``, or why it cannot be had."""
        answer = await self.ask("GET", path, query=query)
        if isinstance(answer, Retry):
            return answer
        said = answer.read(kind)
        return failure(answer) if said is None or answer.status != httpx2.codes.OK else said

    async def close(self) -> None:
        await self._client.aclose()


def outcome(status: int, retry_after: str) -> Outcome:
    """Return what an HTTP ``status`` means for the page."""
    if httpx2.codes.is_success(status):
        return Sent()
    reason = f"status {status}"
    if status not in COME_BACK and not httpx2.codes.is_server_error(status):
        return Refused(reason)
    return Retry(reason, retry_after_s(retry_after))


def failure(answer: Answer, reason: str = "") -> Retry | Refused:
    """Return why ``answer`` is not the success that its provider documents.

    A success with a body that no provider sends is a proxy's: the page may have gone nowhere.
    """
    judged = outcome(answer.status, answer.retry_after)
    if isinstance(judged, Sent):
        return Retry(f"status {answer.status} with an unexpected answer")
    return replace(judged, reason=f"{judged.reason}: {reason}"[:REASON_LIMIT]) if reason else judged


def retry_after_s(header: str) -> float | None:
    """Return the header's seconds within bounds; a date is left to our own backoff."""
    return min(RETRY_AFTER_LIMIT_S, float(header)) if header.isdecimal() else None


def read_secret(path: str, where: str) -> str:
    """Return the secret in a file; raises ``ConfigError`` that names the place, never the value."""
    try:
        secret = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"{where}: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: {path}: not a secret of one line of ASCII") from None
    if not secret or not secret.isprintable() or " " in secret:
        raise ConfigError(f"{where}: {path}: not a secret of one line of ASCII")
    return secret


def checked_url(url: str, where: str) -> str:
    """Return ``url`` if a secret may travel there; raises ``ConfigError``."""
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"{where}: not an http(s) address: {url}") from error
    if parts.scheme == "https" and parts.host:
        return url
    if parts.scheme == "http" and parts.host in LOOPBACK:
        return url
    raise ConfigError(f"{where}: must begin with https:// (http:// on loopback only): {url}")


@cache
def trusted() -> ssl.SSLContext:
    """Return whom to trust; read once: it takes a while, and is the same for all."""
    return httpx2.create_ssl_context()


async def _beginning(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > ANSWER_LIMIT:
            break
    return bytes(body[:ANSWER_LIMIT])
