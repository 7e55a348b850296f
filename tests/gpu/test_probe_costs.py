"""What the probes cost on a card: memory that the worker holds, time, and what a neighbour feels.

The worker is the real one, with CuPy.  What is promised (docs/budgets.md): at most a thousandth of
the GPU's time, and less than 1 % at a neighbour's 99th percentile; the figures are recorded, and
told, and judged by people, since a card that is lent has neighbours of its own.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from statistics import median

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

MIB = 1 << 20
BUDGET_S = 0.02
IS_SIMULATED = "GPUWARD_SIM_STATE" in os.environ
# What the schedule asks for, in seconds from one to the next.
PERIODS_S = {"latency": 10.0, "host_copy": 60.0, "device_copy": 60.0}


class Worker:
    """A probe worker on the first GPU."""

    def __init__(self, card, path) -> None:
        self._path = path
        uuid = card.nvml()["uuid"]
        argv = ("-m", "gpuward.agent.probe_worker", "--gpu", uuid, "--socket", str(path))
        self.program = card.start_module(*argv)
        while not path.is_socket():
            assert self.program.child.poll() is None
            time.sleep(0.01)
        self.pid = self.program.pid

    def ask(self, probe=None):
        request = {"probe": probe, "budget_s": BUDGET_S} if probe else {"status": True}
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
            caller.settimeout(60)
            caller.connect(str(self._path))
            caller.send(json.dumps(request).encode())
            answer = json.loads(caller.recv(65_536))
        assert not answer.get("error"), answer
        return answer


@pytest.fixture
def worker(card, tmp_path):
    return Worker(card, tmp_path / "gpu.sock")


def held(card, worker):
    """Return what NVML says that the worker holds, 0 for a process that it does not list."""
    return card.nvml()["processes"].get(str(worker.pid), 0)


def test_what_a_worker_holds_and_takes(card, worker, record):
    """Nothing before it is asked; then always the same, and little of the GPU's time."""
    before = held(card, worker)
    holds_before = worker.ask()["holds_context"]
    bursts = {
        probe: [worker.ask(probe)["figures"] for _ in range(3 if card.is_quick else 20)]
        for probe in PERIODS_S
    }
    after = held(card, worker)
    asked = {probe: worker.ask(probe)["figures"] for probe in ("product", "allocation")}
    at_last = held(card, worker)
    # The first burst compiles kernels and wakes the card.
    busy_s = {probe: median(b["busy_seconds"] for b in bursts[probe][1:]) for probe in bursts}
    share = sum(busy_s[probe] / period_s for probe, period_s in PERIODS_S.items())
    found = {
        "held_bytes": after,
        "held_bytes_after_probes_on_demand": at_last,
        "busy_s": busy_s,
        "gpu_time_ratio": share,
        "bursts": bursts,
        "on_demand": asked,
    }
    record("probe-costs", found, "a probe worker's memory, and what its bursts took and measured")

    assert (before, holds_before) == (0, False)
    # A context and the two buffers of 64 MiB.
    assert 128 * MIB < after < 2_048 * MIB
    assert share < 0.001
    if not IS_SIMULATED:
        assert asked["product"]["product_error_ratio"] == 0
        assert 1e8 < median(b["clock_hertz"] for b in bursts["latency"]) < 4e9


def test_what_a_neighbour_feels(card, worker, record):
    """Steps of a decoding engine, in turn with and without the schedule's bursts, and with ten
    times as many.
    """
    phase_s = 1.0 if card.is_quick else 30.0
    rounds = 1 if card.is_quick else 4
    worker.ask("latency")
    engine = card.start("gpu/programs/decode.py")
    assert engine.read() == "ready"
    found = {"without": [], "with": [], "ten_times": []}
    for _ in range(rounds):
        for name, times in (("without", 0), ("with", 1), ("ten_times", 10)):
            engine.say(phase_s)
            if times:
                bursts_until(worker, time.monotonic() + phase_s, PERIODS_S["latency"] / times)
            found[name].append(engine.read())
    p99_s = {name: median(phase["p99_s"] for phase in phases) for name, phases in found.items()}
    found["p99_change_ratio"] = p99_s["with"] / p99_s["without"] - 1
    found["p99_change_ratio_ten_times"] = p99_s["ten_times"] / p99_s["without"] - 1
    record("probe-neighbour", found, "steps of a neighbour with and without probes, in turn")
    print(f"p99 of a neighbour: {found['p99_change_ratio']:+.2%} with probes", file=sys.stderr)

    assert all(phase["steps"] > 0 for name in ("without", "with") for phase in found[name])


def bursts_until(worker, until_s, period_s):
    """Ask for bursts as the schedule does; copies after each sixth."""
    count = 0
    while time.monotonic() < until_s:
        worker.ask("latency")
        if count % 6 == 5:
            worker.ask("host_copy")
            worker.ask("device_copy")
        count += 1
        time.sleep(max(0.0, min(period_s, until_s - time.monotonic())))
