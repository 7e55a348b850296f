"""The deadlock rule on real torch, with an allocator that takes the GIL inside torch's own lock.

Whoever asks for statistics meanwhile holds the GIL and waits for that lock, and the process stands
still for good: vLLM's sleep mode, RMM, Dynamo and torch's ``_use_uvm`` are such allocators.
"""

from __future__ import annotations

import json
import subprocess

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.simulator]


@pytest.fixture
def start(node, tap, library):
    def run(*arguments, tapped=True):
        own = str(library("torch/own_allocator"))
        return node.start("gil_taker.py", *arguments, OWN_ALLOCATOR=own, **(tap if tapped else {}))

    return run


@pytest.mark.parametrize(
    ("who", "asked_by"),
    [
        pytest.param("thread", [], id="a thread allocates, nobody knows when"),
        pytest.param("main", [], id="the main thread, which is inside the lock most of the time"),
        pytest.param("engine", [["engine", 0]], id="an engine's step, after which it is safe"),
    ],
)
def test_an_allocator_that_takes_the_gil(start, who, asked_by):
    out, err = start(who, "seen").communicate(timeout=200)

    assert json.loads(out) == asked_by, err


def test_one_that_the_tap_cannot_know_of_would_hang(start):
    """So the tests above would have failed without the rule; without the tap nothing hangs."""
    tapped, untapped = start("thread", "unseen"), start("thread", "unseen", tapped=False)

    assert json.loads(untapped.communicate(timeout=200)[0]) == []
    with pytest.raises(subprocess.TimeoutExpired):
        tapped.communicate(timeout=4)
