"""Start other programs: the only module that may.

A child runs in a session of its own, so that a signal to us does not reach it and a signal to its
group reaches its children.  Output is capped; a time limit ends the whole group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess  # noqa: TID251 - the one place
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OUTPUT_LIMIT_BYTES = 1 << 20

# What ``start`` returns, for those who may not import subprocess.
Child = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended; ``returncode`` is minus the signal number when a signal ended it."""

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool


async def run(
    argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None
) -> Finished:
    """Run ``argv`` to its end or for ``timeout_s``; output beyond 1 MiB a stream is discarded.

    Raises ``OSError`` when the program cannot be started.
    """
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=None if env is None else dict(env),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
            out = group.create_task(_capped(child.stdout))
            err = group.create_task(_capped(child.stderr))
            group.create_task(_wait(child))
    except TimeoutError:
        kill_group(child.pid)
        await child.wait()
        return Finished(child.returncode or -signal.SIGKILL, b"", b"", timed_out=True)
    return Finished(child.returncode or 0, out.result(), err.result(), timed_out=False)


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start ``argv`` in its own session and return at once; raises ``OSError``.

    ``stdout`` and ``stderr``: ``None`` to share ours, or a file or descriptor.
    """
    return subprocess.Popen(
        argv,
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=True,
    )


def kill_group(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send ``number`` to the session that ``start`` made for ``pid``; a dead one is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


async def _capped(stream: asyncio.StreamReader | None) -> bytes:
    kept = bytearray()
    while stream is not None and (chunk := await stream.read(65_536)):
        kept += chunk[: max(0, OUTPUT_LIMIT_BYTES - len(kept))]
    return bytes(kept)


async def _wait(child: asyncio.subprocess.Process) -> None:
    await child.wait()
