"""Ask an engine for its page and its health, whatever engine it is.

An engine of kind ``auto`` is known by the metrics on its page; until it is, each path at which some
engine has its page is tried.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.shipped import pages, recognised, shipped
from gpuward.agent.http_get import HttpClient, HttpError

if TYPE_CHECKING:
    from gpuward.agent.engine_config import EngineConfig
    from gpuward.agent.engines.reading import Reading
    from gpuward.agent.http_answer import Response

ACCEPT = "text/plain;version=0.0.4"
HTTP_OK = 200
_VERSION = re.compile(r"[\w.+-]{1,64}", re.ASCII)


class _Told(msgspec.Struct):
    """What an engine says of itself, but for all that is not asked for."""

    version: str = ""


class EnginePage:
    """What ``engine`` tells of itself; nothing is ever sent but GET of page, health, version."""

    def __init__(self, engine: EngineConfig) -> None:
        self._engine = engine
        verifies = engine.verify_certificate
        self._client = HttpClient(engine.url, verifies=verifies)
        self._health_client = None
        if engine.health_url:
            self._health_client = HttpClient(engine.health_url, verifies=verifies)
        self._reader = _reader_of(engine)
        # Of the page that was read last, in bytes.
        self.length = 0

    def close(self) -> None:
        self._client.close()
        if self._health_client:
            self._health_client.close()

    async def read(self) -> Reading:
        """Return what the page says; raises ``HttpError`` and ``ParseError``."""
        if self._reader is None:
            return await self._recognise()
        text = await self._text(self._reader.engine_map.page)
        reading = self._reader.read(text)
        # A server that has not served anything yet may have nothing at all to tell.
        if reading.is_empty and text.strip():
            self._reader = _reader_of(self._engine)
            raise HttpError(f"{self._engine.url}: its page has no metric of {reading.kind}")
        return reading

    async def is_ready(self) -> bool:
        """Return whether the engine says that it can serve; one that cannot be asked can."""
        client, path = self._health_client or self._client, ""
        if client is self._client:
            path = self._reader.engine_map.health if self._reader else ""
            if not path:
                return True
        try:
            answer = await client.get(path, timeout_s=self._engine.timeout_s)
        except HttpError:
            return False
        return answer.status == HTTP_OK

    async def version(self) -> str:
        """Return the engine's version, empty where it does not tell; raises ``HttpError``."""
        path = self._reader.engine_map.version if self._reader else ""
        if not path:
            return ""
        answer = await self._get(path)
        try:
            told = msgspec.json.decode(answer.body, type=_Told).version
        except msgspec.MsgspecError:
            return ""
        return told if answer.status == HTTP_OK and _VERSION.fullmatch(told) else ""

    async def _recognise(self) -> Reading:
        for page in pages():
            answer = await self._get(page)
            text = self._decoded(answer)
            if answer.status == HTTP_OK and (kind := recognised(text)):
                self._reader = PageReader(kind, shipped(kind), self._engine.model)
                return self._reader.read(text)
        raise HttpError(f"{self._engine.url}: its page is of no engine that gpuward knows")

    async def _text(self, page: str) -> str:
        answer = await self._get(page)
        if answer.status != HTTP_OK:
            raise HttpError(f"{self._engine.url.rstrip('/')}{page}: status {answer.status}")
        return self._decoded(answer)

    def _decoded(self, answer: Response) -> str:
        self.length = len(answer.body)
        return answer.body.decode("utf-8", errors="replace")

    async def _get(self, page: str) -> Response:
        return await self._client.get(page, timeout_s=self._engine.timeout_s, accept=ACCEPT)


def _reader_of(engine: EngineConfig) -> PageReader | None:
    """Return the reader of its pages, ``None`` while it is not known which engine it is."""
    if engine.kind == "auto":
        return None
    engine_map = engine.map if engine.kind == "openmetrics" else shipped(engine.kind)
    return PageReader(engine.kind, engine_map, engine.model)
