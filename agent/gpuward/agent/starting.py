"""What the agent must have in order to start: its folder and two addresses of its own.

Each is had, and given back at the end, or the agent says in one line what to mend.  A folder whose
disk is sick is no reason not to watch the hardware: the agent runs on and keeps nothing, which
``state_watch`` says.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gpuward.agent import state_directory
from gpuward.agent.closing import close_within
from gpuward.agent.config import host_port
from gpuward.agent.spool import Spool
from gpuward.agent.state_directory import StateError
from gpuward.daemon.config import ConfigError

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from gpuward.agent.config import HttpConfig, StateConfig
    from gpuward.agent.exporter import Exporter
    from gpuward.agent.query import QueryServer

SPOOL_FILE = "spool.db"
ADDRESSES_FILE = "addresses.json"
# Trouble of the disk, which no other choice of a folder would have avoided.
SICK_DISK = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO})


class StartError(Exception):
    """The agent cannot start here; the message is one line that says what to mend."""


def open_spool(parts: AsyncExitStack, config: StateConfig, *, wall_s: float) -> Spool:
    """Own the state folder and return the spool in it, in memory only while the disk is sick."""
    directory = Path(config.directory)
    try:
        parts.enter_context(state_directory.owned(directory))
    except StateError as error:
        raise _unusable(directory, str(error)) from error
    except OSError as error:
        if error.errno not in SICK_DISK:
            raise _unusable(directory, _words(error)) from error
    # Those of a process that was killed; nobody shall take them for ours.
    with suppress(OSError):
        (directory / ADDRESSES_FILE).unlink()
    spool = Spool(directory / SPOOL_FILE, wall_s=wall_s)
    close_within(parts, "spool", spool.close)
    return spool


async def start_query(parts: AsyncExitStack, server: QueryServer, address: str) -> str:
    """Start ``server``; returns the address in use."""
    try:
        bound = await server.start(address)
    except OSError as error:
        raise StartError(
            f"[grpc] address {address}: cannot listen there: stop what does, or choose another"
        ) from error
    close_within(parts, "query server", server.close)
    return bound


async def start_http(parts: AsyncExitStack, exporter: Exporter, config: HttpConfig) -> str:
    """Start the server of ``exporter``; returns the address in use."""
    host, port = host_port(config.address)
    try:
        server = exporter.server(config.web_config)
        bound = await server.start(host, port)
    except ConfigError as error:
        raise StartError(f"[http] web_config: {error}") from error
    except OSError as error:
        raise StartError(
            f"[http] address {config.address}: {_words(error)}:"
            " stop what listens there, or choose another"
        ) from error
    close_within(parts, "http server", server.close)
    return f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"


def _words(error: OSError) -> str:
    # asyncio writes an essay of its own around the operating system's words.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def _unusable(directory: Path, reason: str) -> StartError:
    return StartError(f"[state] directory {directory}: {reason}: choose one of our own to write in")
