"""Engines start beside the agent and its probes, whatever happens to the agent meanwhile.

A few of the hundred that ``run.py`` counts, with rules and engines sixteen times as fast.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpuward.simulator import libraries, profile
from gpuward.simulator.state import State

pytestmark = pytest.mark.simulator

HERE = Path(__file__).parent
MIB = 1 << 20


@pytest.fixture
def driver(tmp_path):
    """A simulated node, and the environment that shows it."""
    machine = profile.load("h100-sxm-x8")
    state = State.create(tmp_path / "driver", len(machine.gpus))
    machine.write_to(state)
    try:
        yield state, libraries.environment(state.path, tmp_path)
    except libraries.NotBuiltError as error:
        pytest.skip(str(error))
    state.row.closed = 1
    state.close()


@pytest.fixture
def neighbour(driver):
    """A process that holds as much of GPU 0 as is asked for."""
    state, _ = driver
    with subprocess.Popen(["sleep", "60"]) as child:

        def hold(size):
            assert state.take(0, child.pid, size)
            return child

        yield hold
        child.kill()


def engine(env, start_s):
    argv = [sys.executable, HERE / "engine.py", "0", str(start_s)]
    return subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_an_engine_alone_starts(driver):
    with engine(driver[1], 0.1) as child:
        said = child.communicate()[0]

    assert said == "ready\n"


def test_an_engine_beside_a_context_starts(driver, neighbour):
    neighbour(640 * MIB)
    with engine(driver[1], 0.1) as child:
        said = child.communicate()[0]

    assert said == "ready\n"


def test_an_engine_that_does_not_get_its_share_ends(driver, neighbour):
    """The first of vLLM's two checks."""
    neighbour(8_192 * MIB)
    with engine(driver[1], 0.1) as child:
        said = child.communicate()[0]

    assert "requested" in said


def test_a_context_that_ends_beside_a_start_ends_the_engine(driver, neighbour):
    """The second: so the count below can fail, and does when a worker goes with its agent."""
    state, env = driver
    holder = neighbour(640 * MIB)
    with engine(env, 1.0) as child:
        until_s = time.monotonic() + 200.0
        while len(state.processes(0)) < 2 and time.monotonic() < until_s:
            time.sleep(0.01)
        holder.kill()
        holder.wait()
        said = child.communicate()[0]

    assert "somebody gave back" in said


def test_engines_start_whatever_happens_to_the_agent(driver):
    """Each of the four happenings beside two starts; workers hold contexts meanwhile."""
    options = ["--starts", "8", "--at-once", "2", "--speed", "16"]
    done = subprocess.run(
        [sys.executable, HERE / "run.py", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()

    assert done.returncode == 0, done.stdout
    assert lines[0] == "8 of 8 engines started beside the agent"
    assert lines[1].endswith("2 x start, 2 x upgrade, 2 x kill -9, 2 x out of memory")
    assert int(lines[2].split()[4]) > 0, "no worker held a context, so nothing was shown"
