"""All are read in one thread while they are quick; nobody waits for long for one that is not."""

from __future__ import annotations

import math
import threading
import time

import pytest

from gpuward.agent import nvml_row
from gpuward.agent.nvml_row import Row

NAMES = ("gpu0", "gpu1", "gpu2", "gpu3")
PERIOD_S = 0.01


class Member:
    """Notes who reads it; ``hold``: what its next turn waits for."""

    def __init__(self, name, turns):
        self.name = name
        self.due_s = 0.0
        self.hold = None
        self._turns = turns

    def turn(self):
        hold, self.hold = self.hold, None
        if hold is not None:
            hold.wait()
        self._turns.append((self.name, threading.current_thread()))
        self.due_s = time.monotonic() + PERIOD_S


class Reading:
    """A row of quick members, once each has had its first turn alone."""

    def __init__(self, monkeypatch):
        # However slowly this machine runs a thread, a turn that holds nobody is quick.
        monkeypatch.setattr(nvml_row, "QUICK_S", 1_000.0)
        self.stopping = threading.Event()
        self.turns, self.told = [], []
        self.row = Row(self.stopping, lambda: self.told.append(len(self.turns)))
        self.members = {name: Member(name, self.turns) for name in NAMES}
        for member in self.members.values():
            self.row.begin(member)
        self.until(lambda: len(self.row._members) == len(NAMES))

    def until(self, wanted):
        while not wanted():
            time.sleep(0.001)

    def read(self):
        """Read all who are in the row once; returns their turns, and those of others meanwhile."""
        self.turns.clear()
        for member in self.row._members:
            member.due_s = 0.0
        self.row.read()
        return list(self.turns)

    def names(self):
        return {name for name, _ in self.turns}


@pytest.fixture
def reading(monkeypatch):
    it = Reading(monkeypatch)
    yield it
    it.stopping.set()


def test_each_begins_alone(reading):
    """A first turn is long; what it found is told at once."""
    assert {name for name, _ in reading.turns} == set(NAMES)
    assert len({thread for _, thread in reading.turns}) == len(NAMES)
    assert len(reading.told) == len(NAMES)


def test_one_thread_reads_all(reading, monkeypatch):
    """The same one each second, and everybody has been read when the row has."""
    # A look at this one's pace would be a second thread, on a machine that is slow enough.
    monkeypatch.setattr(nvml_row, "LOOK_EVERY_S", 1_000.0)
    turns = [reading.read() for _ in range(3)]

    assert [[name for name, _ in seen] for seen in turns] == [
        [m.name for m in reading.row._members]
    ] * 3
    assert len({thread for seen in turns for _, thread in seen}) == 1


def test_who_is_not_due_is_not_read(reading):
    reading.turns.clear()
    for name, member in reading.members.items():
        member.due_s = 0.0 if name == "gpu2" else math.inf
    reading.row.read()

    assert reading.names() <= {"gpu2"}
    reading.until(lambda: reading.names() == {"gpu2"})


@pytest.mark.parametrize("hung", [("gpu1",), ("gpu0", "gpu3"), NAMES])
def test_who_hangs_is_left_to_its_thread(reading, hung):
    """The others are read in the same second and in each that follows; it comes back once quick."""
    answer, others = threading.Event(), set(NAMES) - set(hung)
    for name in hung:
        reading.members[name].hold = answer
    for _ in range(2):
        reading.read()
        reading.until(lambda: reading.names() >= others)
        assert reading.names() == others
    answer.set()
    reading.until(lambda: len(reading.row._members) == len(NAMES))
    reading.read()
    reading.until(lambda: reading.names() == set(NAMES))


def test_who_stays_slow_stays_alone(reading, monkeypatch):
    """One slow turn after another: none of them is waited for."""
    slow, answer = reading.members["gpu1"], threading.Event()
    slow.hold = answer
    reading.read()
    monkeypatch.setattr(nvml_row, "QUICK_S", -1.0)
    answer.set()
    reading.turns.clear()
    reading.until(lambda: [name for name, _ in reading.turns].count("gpu1") > 1)

    assert slow not in reading.row._members


def test_what_ends_the_child_ends_the_reading(reading, monkeypatch):
    """Though somebody is waited for."""
    monkeypatch.setattr(nvml_row, "LOOK_EVERY_S", 0.01)
    reading.stopping.set()
    reading.members["gpu0"].hold = answer = threading.Event()

    assert "gpu0" not in dict(reading.read())
    answer.set()
