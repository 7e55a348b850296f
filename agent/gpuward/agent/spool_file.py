"""Keep what happened once on disk until the coordinator has it: one SQLite file, plain calls.

``append`` returns when the events are durable (WAL, synchronous=FULL): that is the promise.  When
the disk is full, at the start too, events are held in memory instead, said once, and written as
soon as there is room; only a crash in that time loses them.  Sequence numbers grow and are never
used twice, not even when the file was lost: each opening starts no lower than the milliseconds
since 1970, which outrun any number of events.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = structlog.get_logger()

MAX_ROWS = 10_000
# With MAX_ROWS the bound of the file; an event of ours is some 2 KiB.
MAX_DATA_BYTES = 16 << 10
MAX_HELD = 1_000
# So many identities are remembered to recognise an event that is read again after a restart.
MAX_IDENTITIES = 20_000
LOCK_WAIT_S = 1.0
# Pages of the file that SQLite keeps in memory: by itself it takes 2 MiB, and days to fill them.
CACHE_KIB = 128

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY, important INTEGER NOT NULL, data BLOB NOT NULL,
    about TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS event_worth ON event (important, seq);
CREATE TABLE IF NOT EXISTS identity (
    number INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS memory (the_only INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS last_seq (the_only INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
"""
# What is dropped for want of room, in this order: what is not important, what neither began nor
# ended its trouble, and only then the oldest.
_WORTH_LITTLE = (
    "SELECT seq FROM event WHERE NOT important",
    (
        "SELECT seq FROM event WHERE about <> ''"
        " AND seq NOT IN (SELECT min(seq) FROM event GROUP BY about)"
        " AND seq NOT IN (SELECT max(seq) FROM event GROUP BY about)"
    ),
    "SELECT seq FROM event",
)


class Item(NamedTuple):
    """One event to keep: ``data`` is opaque here, ``identity`` makes a second copy no event."""

    identity: str
    data: bytes
    # Dropped last when there is no more room.
    important: bool = True
    # The same trouble again: between the first and the last of them, the others are dropped sooner.
    about: str = ""


class SpoolFile:
    """A bounded queue on disk; for one thread at a time."""

    def __init__(self, path: Path, *, wall_s: float, max_rows: int = MAX_ROWS) -> None:
        """Open or make the file; one that is no database is put aside, with a log line."""
        self._path = path
        self._max_rows = max_rows
        self._last_seq = int(wall_s * 1_000)
        self._rows = 0
        self._held: deque[tuple[int, Item]] = deque()
        # What to remember, until the disk has taken it.
        self._unremembered: bytes | None = None
        self._failing = False
        # Events given up for want of room.
        self.dropped = 0
        # What an earlier process asked to ``remember``; empty when nothing.
        self.remembered = b""
        self._database: sqlite3.Connection | None = None
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            self._failed(error)

    @property
    def events(self) -> int:
        """Return how many events wait for their acknowledgement."""
        return self._rows + len(self._held)

    @property
    def held(self) -> int:
        """Return how many events are in memory only, because the disk does not take them."""
        return len(self._held)

    def append(self, items: Sequence[Item]) -> None:
        """Keep ``items``, oldest first; those whose identity is known already are left out."""
        for item in items:
            if len(item.data) > MAX_DATA_BYTES:
                self.dropped += 1
                continue
            self._last_seq += 1
            self._held.append((self._last_seq, item))
        self._write_held()

    def after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` events with a higher number than ``seq``, oldest first."""
        self._write_held()
        rows: list[tuple[int, bytes]] = []
        if self._database is not None:
            rows = self._database.execute(
                "SELECT seq, data FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
            ).fetchall()
        rows += [(number, item.data) for number, item in self._held if number > seq]
        return rows[:limit]

    def acknowledge(self, seq: int) -> None:
        """Forget all events up to and including ``seq``."""
        while self._held and self._held[0][0] <= seq:
            self._held.popleft()
        try:
            with self._connect() as database:
                gone = database.execute("DELETE FROM event WHERE seq <= ?", (seq,)).rowcount
        except sqlite3.DatabaseError as error:
            # Sent again after a restart; the coordinator knows the numbers.
            self._failed(error)
        else:
            self._rows -= gone
            self._worked()

    def remember(self, data: bytes) -> None:
        """Keep ``data`` in place of what was remembered before; it is opaque here."""
        self._unremembered = data
        self._write_held()

    def close(self) -> None:
        self._write_held()
        if self._database is not None:
            self._database.close()

    def _connect(self) -> sqlite3.Connection:
        """Return the open file; raises ``sqlite3.DatabaseError`` while it cannot be opened."""
        if self._database is None:
            database = _open_or_put_aside(self._path)
            last = database.execute("SELECT max(seq) FROM last_seq").fetchone()[0]
            self._last_seq = max(self._last_seq, last or 0)
            self._rows = database.execute("SELECT count(*) FROM event").fetchone()[0]
            memory = database.execute("SELECT data FROM memory").fetchone()
            self.remembered = memory[0] if memory else b""
            self._database = database
        return self._database

    def _write_held(self) -> None:
        if not self._held and self._unremembered is None:
            return
        try:
            with self._connect() as database:
                if self._unremembered is not None:
                    memory = (self._unremembered,)
                    database.execute("INSERT OR REPLACE INTO memory VALUES (0, ?)", memory)
                added = sum(_insert(database, seq, item) for seq, item in self._held)
                database.execute("INSERT OR REPLACE INTO last_seq VALUES (0, ?)", (self._last_seq,))
                dropped = _make_room(database, self._rows + added - self._max_rows)
        except sqlite3.DatabaseError as error:
            self._failed(error)
            self._bound_held()
        else:
            self._rows += added - dropped
            self.dropped += dropped
            self._held.clear()
            self._unremembered = None
            self._worked()

    def _bound_held(self) -> None:
        while len(self._held) > MAX_HELD:
            least = min(self._held, key=lambda entry: (entry[1].important, entry[0]))
            self._held.remove(least)
            self.dropped += 1

    def _failed(self, error: sqlite3.Error) -> None:
        if not self._failing:
            log.error("spool.write_failed", path=str(self._path), reason=str(error))
        self._failing = True

    def _worked(self) -> None:
        if self._failing:
            log.info("spool.recovered", path=str(self._path))
        self._failing = False


def _insert(database: sqlite3.Connection, seq: int, item: Item) -> int:
    """Return 1 when the event is new, 0 when its identity is known."""
    known = database.execute("INSERT OR IGNORE INTO identity (identity) VALUES (?)", item[:1])
    if known.rowcount == 0:
        return 0
    database.execute(
        "INSERT INTO event (seq, important, data, about) VALUES (?, ?, ?, ?)",
        (seq, item.important, item.data, item.about),
    )
    return 1


def _make_room(database: sqlite3.Connection, surplus: int) -> int:
    """Delete ``surplus`` events, least important first, and identities of long ago."""
    database.execute(
        "DELETE FROM identity WHERE number <= (SELECT max(number) FROM identity) - ?",
        (MAX_IDENTITIES,),
    )
    gone = 0
    for which in _WORTH_LITTLE:
        if surplus > gone:
            # Each is a query of this file: no words of others are in it.
            statement = f"DELETE FROM event WHERE seq IN ({which} ORDER BY seq LIMIT ?)"  # noqa: S608
            gone += database.execute(statement, (surplus - gone,)).rowcount
    return gone


def _open_or_put_aside(path: Path) -> sqlite3.Connection:
    try:
        return _open(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_name(path.name + ".unreadable")
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        log.warning("spool.put_aside", path=str(path), kept_as=str(aside), reason=str(error))
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    # Made by one thread, used by another, never by two at a time.
    database = sqlite3.connect(path, timeout=LOCK_WAIT_S, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        database.executescript(_SCHEMA)
        columns = {row[1] for row in database.execute("PRAGMA table_info(event)")}
        if "about" not in columns:
            # A file of an earlier version, which may hold what nobody has heard yet.
            database.execute("ALTER TABLE event ADD COLUMN about TEXT NOT NULL DEFAULT ''")
    except sqlite3.Error:
        database.close()
        raise
    return database
