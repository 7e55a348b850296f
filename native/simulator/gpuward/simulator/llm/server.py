"""The engine in real time, behind the face of a vLLM server: what an agent asks on a node.

One turn every ten milliseconds lets the engine live up to now; answers then are given the tokens
that it has made for them.  Its own traffic is simulated with it, so a busy server costs no client.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from gpuward.simulator.llm.faults import PageTrouble
from gpuward.simulator.llm.page import render
from gpuward.simulator.llm.request import FinishedReason, Request
from gpuward.simulator.llm.words import length_of, token
from gpuward.simulator.workload_http import (
    PROMETHEUS_TEXT,
    READ_TIMEOUT_S,
    BadRequest,
    Response,
    read_request,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from gpuward.daemon.clock import Clock
    from gpuward.simulator.llm.engine import LlmEngine
    from gpuward.simulator.workload_http import Request as HttpRequest

TURN_S = 0.01
# Who asks for a page that is never served goes away at last.
NEVER_S = 60.0
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Connection: close\r\n\r\n"
)
# Numbers of requests that come over HTTP; the engine's own count from 1.
FIRST_NUMBER = 1 << 40


class Asked(msgspec.Struct, frozen=True):
    """Of the body of ``POST /v1/completions`` what matters here; vLLM's defaults."""

    prompt: str = ""
    max_tokens: Annotated[int, Meta(ge=1, le=4_096)] = 16
    stream: bool = False
    model: str = ""


class EngineError(Exception):
    """The engine ended a request with an error."""


class Server:
    """Serves ``engine``, whose time begins with ``clock``'s now."""

    def __init__(self, engine: LlmEngine, clock: Clock, seed: int = 0) -> None:
        self._engine = engine
        self._clock = clock
        self._began_s = clock.mono_s()
        self._random = random.Random(f"server/{seed}")  # noqa: S311 - repeatable, not secret
        self._number = FIRST_NUMBER
        self._turned = asyncio.Event()

    async def run(self) -> None:
        """Let the engine live with the clock, until cancelled."""
        while True:
            now_s = self._clock.mono_s()
            self._engine.advance(now_s - self._began_s)
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()
            await self._clock.sleep_until(now_s + TURN_S)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                request = await read_request(reader)
            if self._engine.is_ready:
                await self._answer(request, writer)
        except BadRequest as error:
            writer.write(_error(HTTPStatus.BAD_REQUEST, str(error)).as_bytes())
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        match request.method, request.path:
            case "GET", "/health":
                writer.write(Response(HTTPStatus.OK, b"", "text/plain").as_bytes())
            case "GET", "/metrics":
                await self._page(writer)
            case "GET", "/v1/models":
                listed = {"object": "list", "data": [{"id": self._model, "object": "model"}]}
                body = msgspec.json.encode(listed)
                writer.write(Response(HTTPStatus.OK, body).as_bytes())
            case "POST", "/v1/completions":
                await self._complete(request.body, writer)
            case method, path:
                message = f"no {method} {path} here"
                writer.write(_error(HTTPStatus.NOT_FOUND, message).as_bytes())

    @property
    def _model(self) -> str:
        return self._engine.platform.model

    async def _page(self, writer: asyncio.StreamWriter) -> None:
        match self._engine.conditions.page:
            case PageTrouble.REFUSED:
                return
            case PageTrouble.TIMES_OUT:
                await self._clock.sleep_until(self._clock.mono_s() + NEVER_S)
            case PageTrouble.STATUS_500:
                writer.write(_error(HTTPStatus.INTERNAL_SERVER_ERROR, "no page").as_bytes())
            case None:
                page = render(self._engine.metrics).encode()
                writer.write(Response(HTTPStatus.OK, page, PROMETHEUS_TEXT).as_bytes())

    async def _complete(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            asked = msgspec.json.decode(body, type=Asked)
        except msgspec.DecodeError as error:
            raise BadRequest(str(error)) from error
        try:
            async with aclosing(self._words(asked)) as words:
                if asked.stream:
                    await self._stream(words, writer)
                else:
                    await self._whole(words, asked, writer)
        except EngineError as error:
            message = _error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            writer.write(message.as_bytes())

    async def _whole(
        self, words: AsyncIterator[str], asked: Asked, writer: asyncio.StreamWriter
    ) -> None:
        said = [word async for word in words]
        usage = {"prompt_tokens": length_of(asked.prompt), "completion_tokens": len(said)}
        answer = self._part("".join(said), "length") | {"usage": usage}
        writer.write(Response(HTTPStatus.OK, msgspec.json.encode(answer)).as_bytes())

    async def _stream(self, words: AsyncIterator[str], writer: asyncio.StreamWriter) -> None:
        """Write each token when it is there; the status waits for the first, as vLLM's does."""
        is_first = True
        async for word in words:
            if is_first:
                writer.write(STREAM_HEAD)
                is_first = False
            writer.write(b"data: " + msgspec.json.encode(self._part(word)) + b"\n\n")
            await writer.drain()
        writer.write(b"data: " + msgspec.json.encode(self._part("", "length")) + b"\n\n")
        writer.write(b"data: [DONE]\n\n")

    def _part(self, text: str, reason: str | None = None) -> dict[str, object]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        created = int(self._clock.wall_s())
        return {
            "id": f"cmpl-{self._number}",
            "object": "text_completion",
            "created": created,
            "model": self._model,
            "choices": [choice],
        }

    async def _words(self, asked: Asked) -> AsyncGenerator[str, None]:
        """Yield the answer token by token; raises ``EngineError``."""
        engine = self._engine
        self._number += 1
        prompt_tokens = length_of(asked.prompt)
        now_s = self._clock.mono_s() - self._began_s
        request = Request(self._number, now_s, prompt_tokens, asked.max_tokens, self._number)
        engine.submit(request)
        given = 0
        try:
            while given < asked.max_tokens:
                if request.finished in {FinishedReason.ERROR, FinishedReason.ABORT}:
                    raise EngineError("the engine failed")
                for place in range(given, engine.tokens_of(request)):
                    yield self._word(asked.prompt, place)
                given = max(given, engine.tokens_of(request))
                await self._turned.wait()
        finally:
            engine.abort(request)

    def _word(self, prompt: str, place: int) -> str:
        if self._random.random() < self._engine.conditions.corrupt_share:
            return token(self._model, f"corrupt {self._random.random()}", place)
        return token(self._model, prompt, place)


def _error(status: HTTPStatus, message: str) -> Response:
    return Response(status, msgspec.json.encode({"error": {"message": message}}))
