"""Simulated machines, and a process that asks the real nvidia-ml-py about them.

Each asker is a process of its own, because a process loads the library once and keeps its session.
"""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

import pytest

from gpuward.simulator import profile
from gpuward.simulator.libraries import NotBuiltError, environment, library_directory
from gpuward.simulator.state import State

# Evaluates a line at a time; an NVML error is answered by its class's name.
ASKER = """
import sys, time
from ctypes import *
from pynvml import *
import pynvml
def gpu(index=0):
    return nvmlDeviceGetHandleByIndex(index)
def call(name, *arguments):
    return getattr(pynvml.nvmlLib, name)(*arguments)
def seconds(function, *arguments):
    start = time.monotonic()
    try:
        function(*arguments)
    except NVMLError:
        pass
    return time.monotonic() - start
for line in sys.stdin:
    try:
        print(repr(eval(line)), flush=True)
    except NVMLError as error:
        print(repr(type(error).__name__.removeprefix("NVMLError_")), flush=True)
"""


class Asker:
    """A process with nvidia-ml-py; ``ask`` evaluates an expression there."""

    def __init__(self, env):
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASKER],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, expression):
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        assert line, "the asker ended"
        return eval(line)

    def ask(self, expression):
        self.send(expression)
        return self.receive()

    def answers_within(self, seconds):
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session")
def libraries():
    """The folder of the built libraries."""
    try:
        return library_directory()
    except NotBuiltError as error:
        pytest.skip(str(error))


@pytest.fixture
def make_state(tmp_path):
    """Make the state of a profile's machine, by its name."""
    states = []

    def make(name="h100-sxm-x8"):
        machine = profile.load(name)
        state = State.create(tmp_path / f"state-{len(states)}", len(machine.gpus))
        machine.write_to(state)
        states.append(state)
        return state

    yield make
    for state in states:
        state.row.closed = 1
        state.close()


@pytest.fixture
def state(make_state):
    """Eight idle H100."""
    return make_state()


@pytest.fixture
def asker(libraries, tmp_path):
    """Make an asker for a state, by default one that has initialised NVML."""
    askers = []

    def make(state, *, initialised=True):
        asker = Asker(environment(state.path, tmp_path))
        askers.append(asker)
        if initialised:
            assert asker.ask("nvmlInit()") is None
        return asker

    yield make
    for asker in askers:
        asker.close()


@pytest.fixture
def h100(state, asker):
    """An asker before eight idle H100."""
    return asker(state)


@pytest.fixture
def child():
    """Start a process that sleeps."""
    children = []

    def start():
        process = subprocess.Popen(["sleep", "100"])
        children.append(process)
        return process

    yield start
    for process in children:
        process.kill()
        process.wait()


@pytest.fixture
def fixtures():
    """The folder of fixtures."""
    return Path(__file__).parents[1] / "fixtures"
