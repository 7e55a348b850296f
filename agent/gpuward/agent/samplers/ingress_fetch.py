"""Get a metrics page that may need TLS and a key, within its time; whatever fails is one line."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from gpuward.agent.http_answer import BODY_LIMIT_BYTES, HEAD_LIMIT_BYTES
from gpuward.agent.samplers.endpoint_http import Lost, send
from gpuward.agent.samplers.endpoint_key import KeyUnreadableError, read_key
from gpuward.agent.samplers.endpoint_request import Written

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock


class NoPageError(Exception):
    """There is no page; the message says why, and holds no secret."""


async def fetch(
    url: str, path: str, *, key_file: str, key_env: str, timeout_s: float, clock: Clock
) -> str:
    """Return the page at ``path``; raises ``NoPageError``."""
    try:
        async with asyncio.timeout(timeout_s):
            answer = await send(
                url,
                Written(path),
                key=read_key(key_file, key_env),
                clock=clock,
                limit_bytes=HEAD_LIMIT_BYTES + BODY_LIMIT_BYTES,
            )
    except TimeoutError as error:
        raise NoPageError(f"no page within {timeout_s:g} s") from error
    except KeyUnreadableError as error:
        raise NoPageError(str(error)) from error
    if isinstance(answer, Lost):
        raise NoPageError(answer.value)
    if answer.status != HTTPStatus.OK:
        raise NoPageError(f"status {answer.status}")
    return answer.body.decode("utf-8", errors="replace")
