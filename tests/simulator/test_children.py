"""The scenario's real processes."""

import os
import signal
import time
from pathlib import Path

import pytest

from gpuward.simulator.children import RealChildren


@pytest.fixture
def children():
    children = RealChildren()
    yield children
    children.end()


def test_life(children):
    """A process has its own session, dies of a signal, and is no zombie after a turn."""
    pid = children.start("engine", ["sleep", "100"])
    assert children.pid("engine") == pid
    assert os.getsid(pid) == pid

    children.send("engine", signal.SIGTERM)
    while Path(f"/proc/{pid}").exists():
        children.reap()
        time.sleep(0.005)
    assert children.pid("engine") is None
    children.send("engine", signal.SIGKILL)


def test_end(children):
    """At the end nobody is left."""
    pids = [children.start(name, ["sleep", "100"]) for name in "ab"]
    children.end()

    assert [Path(f"/proc/{pid}").exists() for pid in pids] == [False, False]


def test_no_such_program(children):
    """A program that is not there is the caller's error, and leaves no process."""
    with pytest.raises(FileNotFoundError):
        children.start("engine", ["/no/such/program"])

    assert children.pid("engine") is None
