"""Read everybody in one thread, one after the other, while all answer quickly.

Threads that wake for one GPU each take the interpreter from one another and find the processor's
caches cold, which costs more than the reading itself.  But a call that hangs holds its thread for
good.  So the main thread, which calls nobody, has an eye on whoever is being read: one that takes
too long keeps the thread it is read in for itself, and another thread goes on with the rest.  It
comes back once a turn of it is quick.  Everybody begins alone, since a first turn is long.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

# Of real time: a turn in which two looks fall keeps the others waiting.
LOOK_EVERY_S = 0.03
# Coming back and leaving again delays the others, so leave a factor of two between the limits.
QUICK_S = LOOK_EVERY_S / 2


class Member(Protocol):
    """Whoever is read: a GPU, or what the driver has to announce."""

    name: str
    # When the next turn is due; infinity: never.
    due_s: float

    def turn(self) -> None:
        """Read what is due, and set when the next turn is."""


class _Worker:
    """What is known of the thread that reads the row."""

    def __init__(self) -> None:
        # Bare locks are cheaper than events, and their time-outs are of real time in a drill too.
        self.go = _closed()
        self.reads: Member | None = None
        self.is_replaced = False


class Row:
    """Those who are read together; ``tell`` sends what a turn outside the row has found."""

    def __init__(self, stopping: threading.Event, tell: Callable[[], None]) -> None:
        self._stopping = stopping
        self._tell = tell
        # Of all that follows, and of the worker.
        self._lock = threading.Lock()
        self._members: list[Member] = []
        self._pending: deque[Member] = deque()
        self._worker: _Worker | None = None
        self._is_read = _closed()

    def begin(self, member: Member) -> None:
        """Read ``member`` from now on, in a thread of its own until a turn of it is quick."""
        _start(member.name, self._read_alone, member)

    def read(self) -> None:
        """Return when all who are due have been read, or have got a thread of their own.

        For one thread, which none of them can keep.
        """
        now_s = time.monotonic()
        with self._lock:
            self._pending.extend(member for member in self._members if member.due_s <= now_s)
            if not self._pending:
                return
            worker = self._worker or self._new_worker()
        worker.go.release()
        watched = None
        while not self._is_read.acquire(timeout=LOOK_EVERY_S) and not self._stopping.is_set():
            watched = self._look(watched)

    def _look(self, watched: Member | None) -> Member | None:
        """Return who is being read, after letting go of whoever was at the last look too."""
        with self._lock:
            worker = self._worker
            if worker is None or worker.reads is None or worker.reads is not watched:
                return None if worker is None else worker.reads
            worker.is_replaced = True
            self._members.remove(worker.reads)
            self._new_worker().go.release()
            return None

    def _new_worker(self) -> _Worker:
        self._worker = _Worker()
        _start("row", self._work, self._worker)
        return self._worker

    def _work(self, worker: _Worker) -> None:
        while not worker.is_replaced:
            worker.go.acquire()
            while (member := self._following(worker)) is not None:
                member.turn()
        if worker.reads is not None:
            self._read_alone(worker.reads)

    def _following(self, worker: _Worker) -> Member | None:
        """Return whom ``worker`` reads next, ``None`` when that is no longer for it to do."""
        with self._lock:
            if worker.is_replaced:
                return None
            worker.reads = self._pending.popleft() if self._pending else None
            if worker.reads is None:
                self._is_read.release()
            return worker.reads

    def _read_alone(self, member: Member) -> None:
        """Read ``member`` in this thread until a turn of it is quick."""
        while member.due_s < inf and not self._stopping.wait(
            max(0.0, member.due_s - time.monotonic())
        ):
            began_s = time.monotonic()
            member.turn()
            self._tell()
            if time.monotonic() - began_s <= QUICK_S:
                with self._lock:
                    self._members.append(member)
                return


def _closed() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def _start(name: str, target: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, name=name, daemon=True).start()
