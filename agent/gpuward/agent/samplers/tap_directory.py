"""Find tap files, keep the open ones, clear away the stale: the directory anyone may write to.

Watched, it tells of each file as it comes and goes, and is listed every half minute all the same;
not watched, it is listed at every turn.  A user who floods it gets a bounded number of files read
and one counter; everyone else is still read.  A file is removed only when its writer is gone and a
quarter of an hour has passed; what killed processes left beside theirs goes by the same rule.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

from gpuward.agent.samplers.tap_file import RefusedError, TapFile
from gpuward.agent.samplers.tap_watch import TapWatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Names looked at in one scan: a microsecond each.
MAX_NAMES = 10_000
MAX_FILES = 256
MAX_FILES_PER_UID = 64
STALE_AFTER_S = 900.0
LISTED_EVERY_S = 30.0
_UUID = r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_NAME = re.compile(rf"{_UUID}\.tap")
# Questions, answers, and files that were never finished.
_BESIDE = re.compile(rf"{_UUID}\.(?:req|map|map\.tmp|tmp)")


class TapDirectory:
    """Open tap files by name; a directory that is not there has none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: dict[str, TapFile] = {}
        # Names that are not read, so that each is looked into once only.
        self._ignored: set[str] = set()
        # Of them those that this user may not read.
        self._forbidden: set[str] = set()
        # Why the directory itself cannot be listed; empty where it can, or is not there.
        self._trouble = ""
        self._gone: set[str] = set()
        self._watch: TapWatch | None = None
        self._listing_due_s = 0.0
        # Files that belong to no tap file, as the last regular listing saw them.
        self._orphans: list[str] = []
        # Files and names not taken in, by reason, ever.
        self.refused: Counter[str] = Counter()

    @property
    def trouble(self) -> str:
        """Return why taps that may be there are not seen; empty where all are."""
        if self._forbidden:
            return f"{self._path}: taps that this user may not read: {len(self._forbidden)}"
        return self._trouble

    def watch(self) -> None:
        """Hear of files at once from now on; needs the running event loop, until ``close``."""
        self._watch = TapWatch(self._path, appeared=self._appeared, left=self._left)
        self._watch.renew()

    def update(self, now_s: float) -> set[str]:
        """Open what is new; return the names of open files that are gone from the directory.

        A name that another file has taken counts as gone; that file is found in the next listing.
        """
        may_have_missed = self._watch is None or self._watch.renew()
        is_due = now_s >= self._listing_due_s
        if may_have_missed or is_due:
            names = self._list()
            if is_due:
                self._listing_due_s = now_s + LISTED_EVERY_S
                self._orphans = list(_orphans(names))
        return self._gone & self.files.keys()

    def close(self) -> None:
        """Stop watching; close every file."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        for name in list(self.files):
            self.drop(name)

    def drop(self, name: str) -> None:
        self._gone.discard(name)
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

    def remove_orphans(self, wall_s: float) -> None:
        """Unlink what belongs to no tap file and has not been written to for long enough."""
        for name in self._orphans:
            path = self._path / name
            # Somebody else may clear away too, or be the only one who may.
            with contextlib.suppress(OSError):
                if wall_s - path.lstat().st_mtime > STALE_AFTER_S:
                    path.unlink()
        self._orphans = []

    def _list(self) -> set[str]:
        """Open what is new; return all names, also of files that are no tap files."""
        names = self._names()
        taps = {name for name in names if _NAME.fullmatch(name)}
        self._ignored &= taps
        self._forbidden &= taps
        self._gone |= self.files.keys() - taps
        for name in sorted(taps - self.files.keys() - self._ignored):
            self._open(name)
        return names

    def _appeared(self, name: str) -> None:
        if name in self.files:
            self._gone.add(name)
        elif _NAME.fullmatch(name) and len(self._ignored) < MAX_NAMES:
            self._open(name)

    def _left(self, name: str) -> None:
        self._ignored.discard(name)
        self._forbidden.discard(name)
        if name in self.files:
            self._gone.add(name)

    def _open(self, name: str) -> None:
        try:
            self.files[name] = self._opened(name)
        except RefusedError as error:
            self._ignored.add(name)
            self.refused[str(error)] += 1
            if isinstance(error.__cause__, PermissionError):
                self._forbidden.add(name)

    def _names(self) -> set[str]:
        names: set[str] = set()
        try:
            with os.scandir(self._path) as entries:
                for count, entry in enumerate(entries):
                    if count == MAX_NAMES:
                        self.refused["too many names"] += 1
                        break
                    names.add(entry.name)
        except FileNotFoundError:
            names = set()
        except OSError as error:
            self._trouble = f"{self._path}: {error.strerror}"
            return set()
        self._trouble = ""
        return names

    def _opened(self, name: str) -> TapFile:
        if len(self.files) >= MAX_FILES:
            raise RefusedError("too many files")
        file = TapFile(self._path / name)
        if sum(file.uid == other.uid for other in self.files.values()) >= MAX_FILES_PER_UID:
            file.close()
            raise RefusedError("too many files of one user")
        return file


def _orphans(names: set[str]) -> Iterator[str]:
    for name in names:
        beside = _BESIDE.fullmatch(name)
        if beside is not None and f"{beside[1]}.tap" not in names:
            yield name
