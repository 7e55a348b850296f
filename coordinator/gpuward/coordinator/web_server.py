"""Serve the web application inside the coordinator's own loop."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from starlette.applications import Starlette

BACKLOG = 128
STOP_WITHIN_S = 2
# Agents and the database need file descriptors too, and 1024 is all that a process has by default.
MAX_CONNECTIONS = 200
REQUEST_WITHIN_S = 10.0


class WebServer:
    """uvicorn on a socket that is bound before anything is promised."""

    def __init__(self, app: Starlette) -> None:
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_BoundedProtocol,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_WITHIN_S,
            )
        )
        self._listener: socket.socket | None = None

    def bind(self, host: str, port: int) -> str:
        """Take the address and return it as ``host:port``; raises ``OSError``."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        bound = self._listener.getsockname()[1]
        return f"[{host}]:{bound}" if family == socket.AF_INET6 else f"{host}:{bound}"

    async def serve(self) -> None:
        """Answer requests until ``stop``."""
        if self._listener is not None:
            await self._server.serve([self._listener])

    def stop(self) -> None:
        """Take no new requests; ``serve`` returns when those in progress have ended."""
        self._server.should_exit = True

    def close(self) -> None:
        """Give the address back."""
        if self._listener is not None:
            self._listener.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to gpuward.daemon.serve."""
        yield


class _BoundedProtocol(H11Protocol):
    """Bounds what uvicorn leaves open: how many connect, and how long a request may arrive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: object = None
        self._next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._next_look is not None:
            self._next_look.cancel()

    def _look_later(self) -> None:
        self._next_look = self.loop.call_later(REQUEST_WITHIN_S, self._look)

    def _look(self) -> None:
        """Drop a client that still sends the request that it sent when we last looked."""
        arriving = self.conn.their_state in {h11.IDLE, h11.SEND_BODY}
        if arriving and self.cycle is self._seen:
            self.transport.abort()
            return
        self._seen = self.cycle
        self._look_later()
