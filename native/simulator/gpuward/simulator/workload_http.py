"""The workload's HTTP face: one request a connection, as little of HTTP/1.1 as its callers use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from gpuward.simulator.allocator import OutOfMemory
from gpuward.simulator.llm.page import render
from gpuward.simulator.workload_engine import CompletionRequest

if TYPE_CHECKING:
    from gpuward.simulator.llm.metrics import EngineMetrics
    from gpuward.simulator.workload_engine import Engine

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024
READ_TIMEOUT_S = 10.0
PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class BadRequest(Exception):  # noqa: N818 - a condition of the caller's making
    """The bytes are not a request that this server takes."""


@dataclass(frozen=True, slots=True)
class Request:
    """Method, path and body; nothing else matters here."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """Status, body and its type."""

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"

    def as_bytes(self) -> bytes:
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + self.body


class Face:
    """Answers connections for one engine."""

    def __init__(self, engine: Engine, metrics: EngineMetrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                request = await read_request(reader)
            response = await self.answer(request)
        except BadRequest as error:
            response = _error(HTTPStatus.BAD_REQUEST, str(error))
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            writer.close()
            return
        writer.write(response.as_bytes())
        writer.close()

    async def answer(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/health":
                return Response(HTTPStatus.OK, b"", "text/plain")
            case "GET", "/metrics":
                return Response(HTTPStatus.OK, render(self._metrics).encode(), PROMETHEUS_TEXT)
            case "POST", "/v1/completions":
                return await self._complete(request.body)
            case _:
                return _error(HTTPStatus.NOT_FOUND, f"no {request.method} {request.path} here")

    async def _complete(self, body: bytes) -> Response:
        try:
            asked = msgspec.json.decode(body, type=CompletionRequest)
        except msgspec.DecodeError as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))
        try:
            tokens = await self._engine.complete(asked)
        except OutOfMemory as error:
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        usage = {"prompt_tokens": asked.prompt_tokens, "completion_tokens": tokens}
        return Response(HTTPStatus.OK, msgspec.json.encode({"usage": usage}))


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Return the next request; raises ``BadRequest`` and what the stream raises."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise BadRequest("the head is too long") from error
    if len(head) > MAX_HEAD_BYTES:
        raise BadRequest("the head is too long")
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, path, _ = first.split(" ")
    except ValueError as error:
        raise BadRequest("the request line is not METHOD PATH VERSION") from error
    length = _content_length(lines)
    return Request(method, path, await reader.readexactly(length))


def _content_length(lines: list[str]) -> int:
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length":
            if not value.strip().isdecimal() or int(value) > MAX_BODY_BYTES:
                raise BadRequest("Content-Length is not a number up to 65536")
            return int(value)
    return 0


def _error(status: HTTPStatus, message: str) -> Response:
    return Response(status, msgspec.json.encode({"error": message}))
