"""Ask the tap of a process for its memory map: the one thing that the agent asks of a process.

A walk over all blocks stops Python in the inference server for some milliseconds, so it is asked
for by people only, one at a time, and not again within half a minute.  The question and the answer
are files in the tap directory, where anyone may write: the answer must carry the question's nonce
and belong to the owner of the tap file, and nothing in it is believed that cannot be so.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING

from gpuward.agent import memory_map_answer
from gpuward.agent.memory_map_answer import Refused, Taken
from gpuward.tap import map_layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuward.agent.samplers.tap import TapWriter
    from gpuward.daemon.clock import Clock

# Whoever asks waits for five seconds, and should hear why there is no map.
ANSWERED_WITHIN_S = 4.5
# The cost of a walk is 4 ms for 10,000 blocks: a ten-thousandth of this.
NOT_AGAIN_WITHIN_S = 30.0
LOOKED_EVERY_S = 0.05
MAX_REMEMBERED = 1_000
NO_TAP = Refused("no tap: no living process of that name shows its allocator on that GPU")
UNASKABLE = Refused("no tap: the process has a tap that takes no questions")
DEGRADED = Refused("degraded: asking this allocator could stop the process for ever")
UNDER_WAY = Refused("busy: another question to this process is under way")
NO_ANSWER = Refused(
    f"timeout: no answer within {ANSWERED_WITHIN_S:g} s; a process that is idle, or whose main"
    " thread runs no Python, does not answer"
)


@dataclass(slots=True)
class MemoryMapRequests:
    """Questions to taps; ``writer_of`` finds one by process key, GPU and pid."""

    writer_of: Callable[[str, str, int], TapWriter | None]
    clock: Clock
    _asked_s: dict[str, float] = field(default_factory=dict)
    _under_way: set[str] = field(default_factory=set)

    async def ask(self, process_key: str, gpu: str, pid: int = 0) -> Taken | Refused:
        """Return the map, or why there is none, within five seconds."""
        writer = self.writer_of(process_key, gpu, pid)
        if writer is None:
            return NO_TAP
        name = writer.path.stem
        refusal = self._refusal(writer, name)
        if refusal is not None:
            return refusal
        self._under_way.add(name)
        self._asked_s[name] = self.clock.mono_s()
        try:
            outcome = await self._asked(writer, gpu)
        finally:
            self._under_way.discard(name)
        if isinstance(outcome, Refused) and outcome.is_untouched:
            del self._asked_s[name]
        return outcome

    def _refusal(self, writer: TapWriter, name: str) -> Refused | None:
        if writer.is_degraded:
            return DEGRADED
        if not writer.accepts_requests:
            return UNASKABLE
        if name in self._under_way:
            return UNDER_WAY
        now_s = self.clock.mono_s()
        self._asked_s = {
            name: at_s for name, at_s in self._asked_s.items() if now_s < at_s + NOT_AGAIN_WITHIN_S
        }
        if name in self._asked_s:
            left_s = self._asked_s[name] + NOT_AGAIN_WITHIN_S - now_s
            return Refused(
                f"busy: this process was asked a moment ago; ask again in {ceil(left_s)} s"
            )
        if len(self._asked_s) >= MAX_REMEMBERED:
            return Refused("busy: too many processes were asked in the last half minute")
        return None

    async def _asked(self, writer: TapWriter, gpu: str) -> Taken | Refused:
        nonce = secrets.token_bytes(map_layout.NONCE_SIZE)
        question = writer.path.with_suffix(map_layout.REQUEST_SUFFIX)
        answer = writer.path.with_suffix(map_layout.MAP_SUFFIX)
        deadline_ns = int((self.clock.wall_s() + ANSWERED_WITHIN_S) * 1e9)
        try:
            _put(question, map_layout.pack_request(map_layout.Request(nonce, deadline_ns)))
        except OSError as error:
            return Refused(f"no tap: the question cannot be written: {error.strerror}")
        try:
            return await self._answered(answer, writer, nonce, gpu)
        finally:
            for path in (question, answer):
                with contextlib.suppress(OSError):
                    path.unlink()

    async def _answered(
        self, answer: Path, writer: TapWriter, nonce: bytes, gpu: str
    ) -> Taken | Refused:
        deadline_s = self.clock.mono_s() + ANSWERED_WITHIN_S
        seen = None
        while self.clock.mono_s() < deadline_s:
            raw = read(answer, writer.uid, seen)
            if raw is not None:
                found = memory_map_answer.decode(raw.content, nonce, gpu)
                if isinstance(found, Taken):
                    return replace(found, pid=writer.pid)
                if found is not None:
                    return found
                seen = raw.identity
            await self.clock.sleep_until(self.clock.mono_s() + LOOKED_EVERY_S)
        return NO_ANSWER


@dataclass(frozen=True, slots=True)
class Answer:
    """A file that may be an answer; ``identity`` changes with the file."""

    identity: tuple[int, int]
    content: bytes


def read(path: Path, uid: int, seen: tuple[int, int] | None) -> Answer | None:
    """Return the file, ``None`` when it is not there, not of ``uid``, no answer, or ``seen``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        identity = (status.st_ino, status.st_mtime_ns)
        is_answer = (
            stat.S_ISREG(status.st_mode)
            and status.st_nlink == 1
            and status.st_uid == uid
            and status.st_size <= map_layout.MAX_MAP_SIZE
        )
        if not is_answer or identity == seen:
            return None
        # A regular file gives all it has in one read; one that shrinks meanwhile is no answer.
        return Answer(identity, os.read(fd, map_layout.MAX_MAP_SIZE))
    finally:
        os.close(fd)


def _put(path: Path, content: bytes) -> None:
    """Write a file that everyone may read, complete before it has its name."""
    unfinished = path.with_name(f"{secrets.token_hex(8)}.tmp")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with os.fdopen(fd, "wb", buffering=0) as file:
            file.write(content)
            os.fchmod(fd, 0o644)
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
