"""Serve the web application inside the coordinator's own loop."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

BACKLOG = 128
STOP_WITHIN_S = 2


class WebServer:
    """uvicorn on a socket that is bound before anything is promised."""

    def __init__(self, app: Starlette) -> None:
        self._server = _Server(
            uvicorn.Config(
                app,
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
