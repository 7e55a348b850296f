"""GPUs are read one just after the other, and none waits for long for one that hangs."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent import nvml_place
from gpuward.agent.nvml_place import Place, until_look_s

SECOND_S = 0.5
GPUS = 4


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """As long as threads may be late on a busy machine."""
    monkeypatch.setattr(nvml_place, "PATIENCE_S", 5.0)


class Row:
    """Threads that take their places, write down when their turn is, and end together."""

    def __init__(self, *, absent=(), periods=()):
        self.stopping = threading.Event()
        self.places = [Place(index, self.stopping) for index in range(GPUS)]
        for place, following in pairwise(self.places):
            place.following = following
        self.begin_s = time.monotonic() + SECOND_S
        self.turns = []
        self._rarely = periods
        self.threads = [
            threading.Thread(target=self._read, args=(index,))
            for index in range(GPUS)
            if index not in absent
        ]

    def _read(self, index):
        due_s = self.begin_s + SECOND_S * (index in self._rarely)
        while True:
            self.places[index].wait(due_s)
            if self.stopping.is_set():
                return
            self.turns.append((index, time.monotonic() - self.begin_s))
            due_s += SECOND_S * (1 + (index in self._rarely))

    def until(self, count):
        """Run until there were so many turns; returns them."""
        for thread in self.threads:
            thread.start()
        while len(self.turns) < count:
            time.sleep(0.001)
        self.end()
        return self.turns[:count]

    def end(self):
        self.stopping.set()
        for place in self.places:
            place.call()
        for thread in self.threads:
            thread.join()


def test_one_after_the_other():
    """Every second in the same order, and none before it is due."""
    turns = Row().until(2 * GPUS)

    assert [index for index, _ in turns] == [*range(GPUS), *range(GPUS)]
    assert all(at_s >= SECOND_S * (place // GPUS) for place, (_, at_s) in enumerate(turns))


def test_who_does_not_come_is_not_waited_for(monkeypatch):
    """A GPU whose calls hang calls nobody: the next goes by itself, and calls those after it."""
    monkeypatch.setattr(nvml_place, "PATIENCE_S", 0.2)
    turns = Row(absent={1}).until(3)

    assert [0, 2, 3] == [index for index, _ in turns]


def test_who_is_not_due_passes_it_on():
    """A GPU that is read half as often, since it is slow, does not keep the others."""
    turns = Row(periods={1}).until(7)

    assert [0, 2, 3] == [index for index, _ in turns[:3]]
    assert [0, 1, 2, 3] == [index for index, _ in turns[3:]]


def test_a_turn_lasts_until_the_next_is_due():
    """What else is due in it is read at once: there is no second turn to wait for."""
    place = Place(GPUS, threading.Event())
    due_s = time.monotonic()
    place.call()
    place.wait(due_s)
    # On its own it would go on after twenty seconds.
    again = threading.Thread(target=place.wait, args=(due_s,), daemon=True)
    again.start()
    again.join(200)

    assert not again.is_alive()


def test_who_waits_can_be_stopped():
    """At once, however far the next turn is."""
    row = Row()
    row.begin_s += 1_000
    for thread in row.threads:
        thread.start()
    row.end()

    assert [] == row.turns


@pytest.mark.parametrize(
    ("now_s", "every_s", "expected_s"),
    [
        pytest.param(100.0, 1.0, 0.01, id="just after the GPUs"),
        pytest.param(100.01, 1.0, 1.0, id="now: the next"),
        pytest.param(100.21, 0.5, 0.3, id="twice a second"),
        pytest.param(101.01, 4.0, 3.0, id="seldom"),
    ],
)
def test_looks(now_s, every_s, expected_s):
    """Looks at what is not of one GPU come at fixed moments of the second."""
    assert until_look_s(now_s, every_s) == pytest.approx(expected_s, abs=1e-9)


@given(st.floats(0, 1e7), st.sampled_from([0.5, 1.0, 30.0]))
def test_a_look_is_always_ahead(now_s, every_s):
    """Never more than a period away, and never now, which would be for ever now."""
    assert 0 < until_look_s(now_s, every_s) <= every_s
