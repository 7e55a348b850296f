"""What the tap says of each kind of allocator that a program can have, on real torch."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from gpuward.agent.samplers.tap_file import TapFile

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
FRAGMENTATION = "process.memory.fragmentation"
DEGRADED = 4
PRIVATE_POOLS = 32


class Scenario:
    """A program of ``allocators.py``, phase by phase."""

    def __init__(self, child, directory: Path) -> None:
        self._child = child
        self._directory = directory
        self._file: TapFile | None = None

    def said(self):
        """Return what the program says at the end of a phase."""
        line = self._child.stdout.readline()
        assert line, self._child.stderr.read()
        return json.loads(line)

    def phase(self):
        """Return the same, and the next record that its tap publishes of the first GPU."""
        said, since_ns = self.said(), time.monotonic_ns()
        for _ in range(2_000):
            time.sleep(0.1)
            path = next(self._directory.glob("*.tap"), None)
            if self._file is None and path is not None:
                self._file = TapFile(path)
            record = self._file.read().get(0) if self._file is not None else None
            if record is not None and record.mono_ns > since_ns:
                return said, record
        raise AssertionError("nothing published")

    def go_on(self) -> None:
        self._child.stdin.write("\n")
        self._child.stdin.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@pytest.fixture
def start(node, tap, library):
    """Start a scenario of ``allocators.py`` with the tap."""
    started = []

    def run(name, **environment):
        own = str(library("torch/own_allocator"))
        child = node.start("allocators.py", name, OWN_ALLOCATOR=own, **tap, **environment)
        started.append(Scenario(child, Path(tap["GPUWARD_TAP_DIR"])))
        return started[-1]

    yield run
    for scenario in started:
        scenario.close()


def private_pools(said, record):
    """What torch and the tap say of private pools; older torch does not count them."""
    inside = said["private"] or 0
    return (
        (inside, bool(inside)),
        (record.totals.private_pool_reserved_bytes, bool(record.flags & PRIVATE_POOLS)),
    )


@pytest.mark.parametrize("name", ["memory_pool", "graph_pool"])
def test_private_pools_are_told_apart(start, name):
    """Bytes in pools of graphs and of the program's own serve no other request."""
    scenario = start(name)
    said, record = scenario.phase()

    inside, outside = private_pools(said, record)
    assert said["private"] in (50 * MIB, None)
    assert inside == outside
    assert record.all_pools.reserved_bytes == said["reserved"] == 80 * MIB


def test_a_private_pool_that_is_gone_is_no_longer_told(start):
    scenario = start("memory_pool")
    held = []
    for _ in range(3):
        said, record = scenario.phase()
        held.append(said["private"])
        inside, outside = private_pools(said, record)
        assert inside == outside
        assert record.all_pools.reserved_bytes == said["reserved"]
        scenario.go_on()

    assert held in ([50 * MIB, 50 * MIB, 0], [None] * 3)


def test_counters_that_the_program_resets(start, watcher):
    """The tap tells what torch says; what fell has begun anew, and has not risen by its old value.

    Nor does the mean size of a request, a quotient of two such counters, make anything of it.
    """
    scenario = start("reset")
    told, allocations = [], []
    for _ in range(3):
        said, record = scenario.phase()
        told.append((record.totals.device_allocs + record.totals.device_frees, record.peak[5]))
        assert told[-1] == (said["driver_calls"], said["peak"])
        assert record.totals.alloc_retries == said["retries"]
        allocations.append(record.totals.allocations)
        window = watcher.until(
            lambda window, calls=told[-1][0]: [
                key
                for key in window.keys("process_allocation_driver_calls_total")
                if window.latest(key).value == calls
            ]
        )
        scenario.go_on()
    (calls,) = window.keys("process_allocation_driver_calls_total")
    (retries,) = window.keys("process_allocation_retries_total")
    means = window.keys("process_memory_mean_large_request_bytes")

    assert allocations == [21, 0, 5]
    assert [calls_told for calls_told, _ in told] == [3, 0, 1]
    assert (window.risen(calls, 0.0), window.risen(retries, 0.0)) == (1, 0)
    assert [window.latest(key).value for key in means] == [40 * MIB]


def test_an_allocator_in_place_of_torch_s(start):
    """It keeps no statistics, so that records say so; asking would raise."""
    scenario = start("pluggable")
    said, record = scenario.phase()

    assert said == {"said": "no statistics", "backend": "pluggable", "bytes": 30 * MIB}
    assert (record.flags, record.all_pools.reserved_bytes) == (DEGRADED, 0)


def test_an_allocator_of_the_program_s_own_that_comes_later(start):
    """It may take the GIL inside torch's lock, so that nobody asks any more."""
    scenario = start("later")
    said, before = scenario.phase()
    scenario.go_on()
    _, after = scenario.phase()

    assert (before.flags, before.all_pools.reserved_bytes) == (0, said["reserved"])
    assert (after.flags, after.all_pools.reserved_bytes) == (DEGRADED, 0)


def seen(agent):
    """Return whether the process sleeps, as the agent knows, and which kinds of findings it has."""
    snapshot = agent.snapshot()
    asleep = [v.value for v in snapshot.values if v.series.signal == "process_memory_virtual"]
    return asleep, {finding.kind for finding in snapshot.findings}


def wait_until(agent, wanted):
    for _ in range(2_000):
        if wanted(*seen(agent)):
            return
        time.sleep(0.1)
    raise AssertionError(seen(agent))


def test_what_torch_counts_while_it_sleeps_alarms_nobody(start, agent, library):
    """In sleep mode memory is gone and torch still counts it; awake the same is a finding."""
    scenario = start("asleep", LD_PRELOAD=str(library("torch/sleeping_memory")))
    before, filled, asleep = scenario.said()["free"]
    wait_until(agent, lambda virtual, _: virtual == [1])
    time.sleep(5)  # longer than a finding has to last before it counts
    virtual, findings = seen(agent)
    scenario.go_on()
    awake = scenario.said()
    wait_until(agent, lambda virtual, kinds: virtual == [0] and FRAGMENTATION in kinds)

    assert before == filled < asleep - 2000 * MIB
    assert (virtual, FRAGMENTATION in findings) == ([1], False)
    assert awake == {"status": 0, "free": filled}


@pytest.mark.parametrize(
    ("driver", "visible"),
    [
        pytest.param(1, "", id="no GPU is visible"),
        pytest.param(1, "7", id="none of the visible exists"),
        pytest.param(0, "0", id="no driver"),
    ],
)
def test_without_cuda_there_is_no_tap(node, tap, driver, visible):
    """Nor anything else that the program could notice: the messages are torch's own."""
    node.state.row.driver_loaded = driver
    tapped, untapped = (
        node.run("no_cuda.py", CUDA_VISIBLE_DEVICES=visible, **environment)
        for environment in (tap, {})
    )

    assert tapped == untapped
    assert tapped["threads"] == ["MainThread"]
    assert not tapped["available"]
    assert tapped["init"] != "worked"
    assert not list(Path(tap["GPUWARD_TAP_DIR"]).iterdir())
