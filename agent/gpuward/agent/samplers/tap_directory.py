"""Find tap files, keep the open ones, clear away the stale: the directory anyone may write to.

A user who floods the directory gets a bounded number of files read and one counter; everyone else
is still read.  A file is removed only when its writer is gone and a quarter of an hour has passed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

from gpuward.agent.samplers.tap_file import RefusedError, TapFile

if TYPE_CHECKING:
    from pathlib import Path

# Names looked at in one scan: a microsecond each.
MAX_NAMES = 10_000
MAX_FILES = 256
MAX_FILES_PER_UID = 64
STALE_AFTER_S = 900.0
_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tap")


class TapDirectory:
    """Open tap files by name; a directory that is not there has none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: dict[str, TapFile] = {}
        # Names that are not read, so that each is looked into once only.
        self._ignored: set[str] = set()
        # Files and names not taken in, by reason, ever.
        self.refused: Counter[str] = Counter()

    def scan(self) -> set[str]:
        """Open what is new; return the names of open files that are gone from the directory."""
        names = self._names()
        self._ignored &= names
        for name in sorted(names - self.files.keys() - self._ignored):
            try:
                self.files[name] = self._opened(name)
            except RefusedError as error:
                self._ignored.add(name)
                self.refused[str(error)] += 1
        return self.files.keys() - names

    def drop(self, name: str) -> None:
        self.files.pop(name).close()

    def remove_if_stale(self, name: str, wall_s: float) -> bool:
        """Unlink and drop a file whose writer is gone, once it has been left for long enough."""
        file = self.files[name]
        if file.age_s(wall_s) <= STALE_AFTER_S:
            return False
        with contextlib.suppress(OSError):
            # Another file may have taken the name.
            if file.path.lstat().st_ino == file.inode:
                file.path.unlink()
        self._ignored.add(name)
        self.drop(name)
        return True

    def _names(self) -> set[str]:
        names: set[str] = set()
        try:
            with os.scandir(self._path) as entries:
                for count, entry in enumerate(entries):
                    if count == MAX_NAMES:
                        self.refused["too many names"] += 1
                        break
                    if _NAME.fullmatch(entry.name):
                        names.add(entry.name)
        except OSError:
            return set()
        return names

    def _opened(self, name: str) -> TapFile:
        if len(self.files) >= MAX_FILES:
            raise RefusedError("too many files")
        file = TapFile(self._path / name)
        if sum(file.uid == other.uid for other in self.files.values()) >= MAX_FILES_PER_UID:
            file.close()
            raise RefusedError("too many files of one user")
        return file
