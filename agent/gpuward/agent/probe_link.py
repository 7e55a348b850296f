"""Speak to one probe worker: a request and a reply over its SEQPACKET socket."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

REPLY_LIMIT_BYTES = 65_536
# struct ucred: pid, uid, gid.
CREDENTIALS = struct.Struct("3i")


class Reply(msgspec.Struct, frozen=True):
    """What a worker answers: figures, or which condition kept it from measuring."""

    figures: dict[str, float] = {}
    error: str = ""
    reason: str = ""
    holds_context: bool = False

    @property
    def complaint(self) -> str:
        """Return why there are no figures, for a person."""
        return ": ".join(filter(None, (self.error, self.reason)))[:200]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, and the pid of the worker that gave it."""

    reply: Reply
    pid: int


async def ask(path: Path, request: dict[str, object]) -> Answer:
    """Return what the worker at ``path`` answers.

    Raises ``FileNotFoundError`` or ``ConnectionError`` where none listens, ``OSError`` and
    ``msgspec.MsgspecError`` for an answer that is none; waits as long as the caller lets it.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as caller:
        await loop.sock_connect(caller, os.fspath(path))
        who = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        await loop.sock_sendall(caller, msgspec.json.encode(request))
        data = await loop.sock_recv(caller, REPLY_LIMIT_BYTES)
    if not data:
        raise ConnectionResetError("the worker hung up")
    return Answer(msgspec.json.decode(data, type=Reply), CREDENTIALS.unpack(who)[0])
