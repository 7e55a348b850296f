"""A real Prometheus scrapes a real agent on eight simulated H100: what it stores is what there is.

Our own tests read the page with our own eyes; only a Prometheus refuses what Prometheus refuses.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from gpuward.simulator import profile
from gpuward.simulator.libraries import environment
from gpuward.simulator.state import State

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
GPUWARD = shutil.which("gpuward", path=Path(sys.executable).parent)
pytestmark = [
    pytest.mark.simulator,
    pytest.mark.debian,
    pytest.mark.skipif(
        PROMETHEUS is None or PROMTOOL is None, reason="needs the Debian package prometheus"
    ),
]

# The H100 profile: 85,520,809,984 bytes in all, of which the driver keeps 502,267,904.
IDLE_BYTES = 0.0
FREE_BYTES = 85_018_542_080.0
# What a program takes on GPU 5.
TAKEN_BYTES = 8 * 2**30

AGENT = """
[node]
name = "n1"
[state]
directory = "{folder}/state"
[http]
address = "127.0.0.1:0"
[grpc]
address = "127.0.0.1:0"
[tap]
directory = "{folder}/tap"
[kmsg]
path = "{folder}/kmsg"
[probes]
mode = "off"
"""
SCRAPE = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: gpuward
    static_configs:
      - targets: ["{address}"]
"""


class Prometheus:
    """A running server; ``query`` returns one value a GPU, or by whichever label is asked for."""

    def __init__(self, address):
        self.address = address

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=200) as answer:
            return answer.read().decode()

    def is_ready(self):
        """It listens before it has replayed its log, and answers 503 until then."""
        try:
            self.get("/-/ready")
        except urllib.error.HTTPError:
            return False
        return True

    def query(self, expression, by="gpu"):
        words = urllib.parse.urlencode({"query": expression})
        answer = json.loads(self.get(f"/api/v1/query?{words}"))
        assert answer["status"] == "success", answer
        found = [(r["metric"].get(by, ""), float(r["value"][1])) for r in answer["data"]["result"]]
        assert len(dict(found)) == len(found), f"more than one value for a {by}: {found}"
        return dict(found)

    def target(self):
        (target,) = json.loads(self.get("/api/v1/targets"))["data"]["activeTargets"]
        return target

    def own(self, name):
        """Return one of the server's counters about itself."""
        return float(re.search(rf"^{name} (\S+)$", self.get("/metrics"), re.MULTILINE)[1])


def wait_for(condition, within_s=200):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def state(tmp_path):
    """The state of eight idle H100."""
    machine = profile.load("h100-sxm-x8")
    state = State.create(tmp_path / "driver", len(machine.gpus))
    machine.write_to(state)
    yield state
    state.row.closed = 1
    state.close()


@pytest.fixture
def agent(tmp_path, state):
    """Start `gpuward agent run` on the simulated driver; returns where its pages are."""
    (tmp_path / "kmsg").touch()
    config = tmp_path / "agent.toml"
    config.write_text(AGENT.format(folder=tmp_path))
    addresses = tmp_path / "state" / "addresses.json"
    with (tmp_path / "agent.log").open("w") as log:
        process = subprocess.Popen(
            [GPUWARD, "agent", "run", "--config", str(config)],
            env=environment(state.path, tmp_path),
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: addresses.exists() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "agent.log").read_text()
        yield json.loads(addresses.read_text())["http"]
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=200)
    assert 0 == status


@pytest.fixture
def prometheus(tmp_path, agent):
    """Start a Prometheus of its own that scrapes the agent each second."""
    config = tmp_path / "prometheus.yml"
    config.write_text(SCRAPE.format(address=agent))
    log = tmp_path / "prometheus.log"
    argv = [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    with log.open("w") as said:
        # Port 0: it takes a free one and says which.
        process = subprocess.Popen([*argv, "--web.listen-address=127.0.0.1:0"], stderr=said)
    try:
        wait_for(lambda: listening(log) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        server = Prometheus(listening(log))
        wait_for(server.is_ready)
        wait_for(lambda: len(used(server)) == 8)
        yield server
        complaints = re.findall(r".*level=(?:warn|error).*", log.read_text())
    finally:
        process.terminate()
        process.wait(timeout=200)
    assert [] == complaints


def listening(log):
    found = re.search(r'msg="Listening on" address=(127\.0\.0\.1:\d+)', log.read_text())
    return found and found[1]


def used(server):
    return server.query("gpuward_gpu_memory_used_bytes")


def gpus(state):
    return [state.gpu(index).uuid.decode() for index in range(8)]


def test_every_gpu_is_stored_as_the_driver_says(state, prometheus):
    """The target is up, and each GPU has one series with the driver's own figure."""
    state.take(5, os.getpid(), TAKEN_BYTES)
    wait_for(lambda: TAKEN_BYTES in used(prometheus).values())

    expected = dict.fromkeys(gpus(state), IDLE_BYTES) | {gpus(state)[5]: TAKEN_BYTES}
    assert {"gpuward": 1.0} == prometheus.query("up", by="job")
    assert expected == used(prometheus)
    assert FREE_BYTES == prometheus.query("gpuward_gpu_memory_free_bytes")[gpus(state)[0]]
    assert dict.fromkeys(gpus(state), 71.0) == prometheus.query("gpuward_gpu_power_draw_watts")


def test_a_scrape_has_no_errors_and_no_series_twice(prometheus):
    """Every sample that was read is a series of its own, of one type, and none was refused."""
    wait_for(lambda: prometheus.query("count_over_time(up[1m])", by="job")["gpuward"] >= 5)
    (read,) = prometheus.query("scrape_samples_scraped", by="job").values()
    (kept,) = prometheus.query(
        'count({job="gpuward", __name__!~"up|scrape_.*"})', by="job"
    ).values()
    refused = [
        prometheus.own(f"prometheus_target_scrapes_sample_{why}_total")
        for why in ("duplicate_timestamp", "out_of_bounds", "out_of_order")
    ]

    assert ("up", "") == (prometheus.target()["health"], prometheus.target()["lastError"])
    assert read == kept
    assert [0, 0, 0] == refused


def test_a_lost_gpu_vanishes_and_the_others_stay(state, prometheus):
    """Stale is absent: Prometheus shows nothing for it, no line that goes on at the last value."""
    state.gpu(3).lost = 1
    lost = gpus(state)[3]
    wait_for(lambda: lost not in used(prometheus))

    assert set(gpus(state)) - {lost} == used(prometheus).keys()
    assert {"gpuward": 1.0} == prometheus.query("up", by="job")
    assert {"": 1.0} == prometheus.query("gpuward_driver_up")


def test_promtool_has_nothing_to_say(agent):
    """The page as it is served passes Prometheus' own linter."""
    with urllib.request.urlopen(f"http://{agent}/metrics", timeout=200) as answer:
        page = answer.read()
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=page, capture_output=True, check=False
    )

    assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)
