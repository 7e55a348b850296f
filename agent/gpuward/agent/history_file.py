"""The file that history survives a restart in: plain calls, for one thread at a time.

It is written place by place as seconds go by, so a process that is killed loses one second; a row
that was torn is found by its checksum when the file is read again.  A file that cannot be used, of
another version, too short, not a file at all, is said once and begun anew.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent import history_layout as layout
from gpuward.agent.history_directory import Content

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COPIED_AT_ONCE = 1 << 20


class HistoryFileError(Exception):
    """The file cannot be used; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a file held; ``torn``: rows that were not whole."""

    generation: int
    content: Content
    torn: int


def read_into(memory: int, path: Path) -> Found | None:
    """Copy what is whole in the file at ``path`` to ``memory``, a descriptor; ``None`` without one.

    Raises ``HistoryFileError``, ``OSError``.
    """
    try:
        # A name that somebody put a pipe or a link at must not stop us.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode):
            raise HistoryFileError("it is no file")
        if fault := layout.header_fault(os.pread(file, layout.HEADER_SIZE, 0)):
            raise HistoryFileError(fault)
        if state.st_size != layout.SIZE:
            raise HistoryFileError(f"it has {state.st_size} bytes, not {layout.SIZE}")
        generation, content = _directory(file)
        torn = sum(_copy_tier(file, memory, tier, generation) for tier in layout.TIERS)
        return Found(generation, content, torn)
    finally:
        os.close(file)


def _directory(file: int) -> tuple[int, Content]:
    raws = (os.pread(file, layout.DIRECTORY_SIZE, at) for at in layout.DIRECTORY_OFFSETS)
    whole = [found for raw in raws if (found := layout.unpack_directory(raw)) is not None]
    if not whole:
        raise HistoryFileError("it does not say what is in it")
    generation, body = max(whole)
    try:
        return generation, msgspec.json.decode(body, type=Content)
    except msgspec.MsgspecError as error:
        raise HistoryFileError(str(error)) from error


def _copy_tier(file: int, memory: int, tier: layout.Tier, generation: int) -> int:
    """Copy the rows of ``tier`` that are whole; return how many were written and are not."""
    torn = 0
    for offset in range(tier.offset, tier.end, tier.row_size):
        raw = os.pread(file, tier.row_size, offset)
        # Never written.
        if not any(raw[:4]) and not any(raw):
            continue
        row = layout.unpack_row(raw)
        if row is None or tier.offset_of(row.step) != offset or row.generation > generation:
            torn += 1
        else:
            os.pwrite(memory, raw, offset)
    return torn


class HistoryFile:
    """Follows ``memory``, a descriptor of the same layout."""

    def __init__(self, path: Path, memory: int) -> None:
        self._path = path
        self._memory = memory
        self._file = -1

    def write(self, changed: Mapping[int, int]) -> None:
        """Copy what changed, size by offset; all of it when the file is not there or not whole.

        Raises ``OSError``; the next call begins anew.
        """
        try:
            if self._is_whole():
                for offset, size in changed.items():
                    os.pwrite(self._file, os.pread(self._memory, size, offset), offset)
            else:
                self._begin()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _is_whole(self) -> bool:
        if self._file < 0:
            return False
        state = os.fstat(self._file)
        return state.st_size == layout.SIZE and state.st_nlink == 1

    def _begin(self) -> None:
        """Make the file under another name; it has its own once it is complete."""
        self.close()
        unfinished = self._path.with_name(self._path.name + ".new")
        with contextlib.suppress(FileNotFoundError):
            unfinished.unlink()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(unfinished, flags, 0o640)
        try:
            # The disk is full now, or not for us.
            os.posix_fallocate(self._file, 0, layout.SIZE)
            for offset in range(0, layout.SIZE, COPIED_AT_ONCE):
                os.pwrite(self._file, os.pread(self._memory, COPIED_AT_ONCE, offset), offset)
            unfinished.replace(self._path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
