"""The spool behaves like a bounded deque, also when killed between any two writes."""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from structlog.testing import capture_logs

from gpuward.agent.spool_file import Item, SpoolFile

WALL_S = 1_800_000_000.0
FIRST_SEQ = 1_800_000_000_001


def items(*names):
    return [Item(name, name.encode()) for name in names]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spool.db"


@pytest.fixture
def make_full():
    """Let a spool's disk be full, and have room again."""

    def full(spool, *, is_full):
        pages = 1 if is_full else 1_000_000
        spool._database.execute(f"PRAGMA max_page_count = {pages}")

    return full


class SpoolMachine(RuleBasedStateMachine):
    """Appends, acknowledgements and restarts, compared with a list."""

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name, "spool.db")
        self.wall_s = WALL_S
        self.spool = SpoolFile(self.path, wall_s=self.wall_s, max_rows=8)
        self.expected = []
        self.known = set()
        self.dropped = 0
        self.highest = 0

    @rule(names=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=5))
    def append(self, names):
        self.spool.append([Item(str(n), b"%d" % n, important) for n, important in names])
        for name, important in names:
            if name not in self.known:
                self.known.add(name)
                self.expected.append((important, b"%d" % name))
        while len(self.expected) > 8:
            least = next((entry for entry in self.expected if not entry[0]), self.expected[0])
            self.expected.remove(least)
            self.dropped += 1

    @rule(count=st.integers(0, 8))
    def acknowledge(self, count):
        waiting = self.spool.after(0, 100)[:count]
        if waiting:
            self.spool.acknowledge(waiting[-1][0])
            del self.expected[: len(waiting)]

    @rule(lost_s=st.sampled_from([-3_600.0, 0.0, 1.0]), cleanly=st.booleans())
    def restart(self, lost_s, cleanly):
        """The wall clock may have jumped meanwhile."""
        if cleanly:
            self.spool.close()
        self.wall_s += lost_s
        self.spool = SpoolFile(self.path, wall_s=self.wall_s, max_rows=8)
        self.dropped = 0

    @invariant()
    def holds_what_a_list_holds(self):
        kept = self.spool.after(0, 100)
        assert [data for _, data in kept] == [data for _, data in self.expected]
        assert (self.spool.events, self.spool.dropped) == (len(self.expected), self.dropped)

    @invariant()
    def numbers_grow(self):
        numbers = [seq for seq, _ in self.spool.after(0, 100)]
        assert numbers == sorted(set(numbers))
        new = [number for number in numbers if number > self.highest]
        assert not new or min(new) > self.highest
        self.highest = max([self.highest, *numbers])

    def teardown(self):
        self.spool.close()
        self.folder.cleanup()


SpoolMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
TestSpoolMachine = SpoolMachine.TestCase


def test_numbers_are_never_used_twice(path):
    """Not even when everything was acknowledged, or the file was lost."""
    spool = SpoolFile(path, wall_s=WALL_S)
    spool.append(items("a"))
    first = spool.after(0, 9)[0][0]
    spool.acknowledge(first)
    spool.close()

    again = SpoolFile(path, wall_s=WALL_S)
    again.append(items("b"))
    second = again.after(0, 9)[0][0]
    again.close()
    path.unlink()
    anew = SpoolFile(path, wall_s=WALL_S + 1)
    anew.append(items("c"))

    assert (first, second) == (FIRST_SEQ, FIRST_SEQ + 1)
    assert anew.after(0, 9)[0][0] > second


def test_an_event_that_is_read_again_after_a_restart_is_known(path):
    """Even when the coordinator has it already."""
    spool = SpoolFile(path, wall_s=WALL_S)
    spool.append(items("a", "b"))
    spool.acknowledge(FIRST_SEQ + 1)
    spool.close()

    spool = SpoolFile(path, wall_s=WALL_S + 60)
    spool.append(items("b", "c"))

    assert [data for _, data in spool.after(0, 9)] == [b"c"]


def test_after_and_limit(path):
    spool = SpoolFile(path, wall_s=WALL_S)
    spool.append(items("a", "b", "c"))

    assert spool.after(FIRST_SEQ, 1) == [(FIRST_SEQ + 1, b"b")]


def test_a_full_disk_loses_nothing_and_is_said_once(path, make_full):
    """Held in memory, in order, reported as well; written when there is room."""
    spool = SpoolFile(path, wall_s=WALL_S)
    spool.append(items("a"))
    make_full(spool, is_full=True)
    with capture_logs() as logs:
        spool.append([Item("b", b"b" * 15_000)])
        spool.append([Item("c", b"c" * 15_000)])

    assert [(log["event"], log["reason"]) for log in logs] == [
        ("spool.write_failed", "database or disk is full")
    ]
    assert (spool.held, spool.events) == (2, 3)
    assert [data[:1] for _, data in spool.after(0, 9)] == [b"a", b"b", b"c"]

    make_full(spool, is_full=False)
    with capture_logs() as logs:
        assert [data[:1] for _, data in spool.after(0, 9)] == [b"a", b"b", b"c"]

    assert [log["event"] for log in logs] == ["spool.recovered"]
    assert spool.held == 0
    spool.close()
    assert len(SpoolFile(path, wall_s=WALL_S).after(0, 9)) == 3


def test_what_is_to_be_remembered_waits_for_room_too(path, make_full):
    """And what is remembered takes along what was held."""
    spool = SpoolFile(path, wall_s=WALL_S)
    make_full(spool, is_full=True)
    spool.remember(b"r" * 15_000)
    make_full(spool, is_full=False)
    spool.after(0, 9)
    assert SpoolFile(path, wall_s=WALL_S).remembered == b"r" * 15_000

    make_full(spool, is_full=True)
    spool.append([Item("b", b"b" * 15_000)])
    make_full(spool, is_full=False)
    spool.remember(b"")
    assert (spool.held, SpoolFile(path, wall_s=WALL_S).remembered) == (0, b"")


def test_what_was_held_can_be_acknowledged(path, make_full):
    spool = SpoolFile(path, wall_s=WALL_S)
    make_full(spool, is_full=True)
    spool.append([Item("b", b"b" * 15_000), Item("c", b"c" * 15_000)])

    spool.acknowledge(FIRST_SEQ)

    assert [data[:1] for _, data in spool.after(0, 9)] == [b"c"]


def test_memory_is_bounded_while_the_disk_is_full(path, make_full):
    """The least important go first, counted."""
    spool = SpoolFile(path, wall_s=WALL_S)
    make_full(spool, is_full=True)

    spool.append([Item("x", b"x" * 15_000, important=False), *items(*map(str, range(1_002)))])

    kept = spool.after(0, 2_000)
    assert (spool.held, spool.dropped) == (1_000, 3)
    assert kept[0][1] == b"2"


def test_a_disk_that_is_full_from_the_start_does_not_keep_the_agent_from_starting(tmp_path):
    """A folder that is not there yet stands for it: the file cannot be made."""
    folder = tmp_path / "later"
    with capture_logs() as logs:
        spool = SpoolFile(folder / "spool.db", wall_s=WALL_S)
        spool.append(items("a"))
    folder.mkdir()

    assert [log["event"] for log in logs] == ["spool.write_failed"]
    assert spool.after(0, 9) == [(FIRST_SEQ, b"a")]
    assert spool.held == 0


def test_a_file_that_is_no_database_is_put_aside(path):
    path.write_bytes(b"not a database, but long enough to have a header" * 50)

    with capture_logs() as logs:
        spool = SpoolFile(path, wall_s=WALL_S)
    spool.append(items("a"))

    assert [log["event"] for log in logs] == ["spool.put_aside"]
    assert path.with_name("spool.db.unreadable").exists()
    assert len(spool.after(0, 9)) == 1


def test_too_large_an_event_is_refused(path):
    spool = SpoolFile(path, wall_s=WALL_S)
    spool.append([Item("a", b"x" * 16_385), Item("b", b"x" * 16_384)])

    assert (spool.events, spool.dropped) == (1, 1)


WRITER = """
import sys
from pathlib import Path
from gpuward.agent.spool_file import Item, SpoolFile

spool = SpoolFile(Path(sys.argv[1]), wall_s=1_800_000_000.0)
number = 0
while True:
    number += 1
    spool.append([Item(f"{number}", b"%d" % number)])
    # Only what append has returned for is promised.
    print(number, flush=True)
    if number % 10 == 0:
        spool.acknowledge(1_800_000_000_000 + number - 5)
"""


@pytest.mark.parametrize("lines", [1, 13, 40])
def test_kill_at_any_instant_loses_nothing(path, lines):
    """What append returned for is there after kill -9, except what was acknowledged."""
    argv = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(lines):
            promised = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        promised = max([promised, *(int(line) for line in writer.stdout if line.endswith("\n"))])

    kept = [int(data) for _, data in SpoolFile(path, wall_s=WALL_S).after(0, 100_000)]

    assert kept == list(range(kept[0], kept[-1] + 1))
    assert kept[0] <= max(1, promised // 10 * 10 - 4)
    assert kept[-1] in (promised, promised + 1)


def test_it_is_full_of_pages_soon(path):
    """Thousands of identities later SQLite holds no more memory than after the first hundreds."""
    sqlite = ctypes.CDLL(_sqlite3.__file__)
    sqlite.sqlite3_memory_used.restype = ctypes.c_int64
    spool, used = SpoolFile(path, wall_s=WALL_S), []
    for batch in range(20):
        spool.append(items(*(f"boot-1|gpu.xid|boot-1:{batch}:{place}" for place in range(200))))
        spool.acknowledge(spool.after(0, 200)[-1][0])
        used.append(sqlite.sqlite3_memory_used())
    spool.close()

    assert used[-1] <= used[6] + 8 * 1_024
