"""`gpuward agent` as a process: exit status and words, faults of a simulated driver, kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request

import pytest

XID_79 = "3,7,{usec},-;NVRM: Xid (PCI:0000:1B:00): 79, pid=1, name=x, GPU has fallen off the bus.\n"


class Agent:
    """One node's agent in a temporary folder; it may be started more than once."""

    def __init__(self, folder):
        self.folder = folder
        self.kmsg = folder / "kmsg"
        self.kmsg.touch()
        self.config = folder / "agent.toml"
        self.config.write_text(
            f'[node]\nname = "n1"\n[state]\ndirectory = "{folder}/state"\n'
            '[http]\naddress = "127.0.0.1:0"\n[grpc]\naddress = "127.0.0.1:0"\n'
            f'[tap]\ndirectory = "{folder}/tap"\n[kmsg]\npath = "{self.kmsg}"\n'
            '[probes]\nmode = "off"\n'
        )
        self.process = None

    def start(self, env=None):
        addresses = self.folder / "state" / "addresses.json"
        addresses.unlink(missing_ok=True)
        self.process = run("run", self.config, env=env)
        wait_for(lambda: addresses.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.stderr.read()
        self.http = json.loads(addresses.read_text())["http"]

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=200) as answer:
            return answer.read().decode()

    def metric_lines(self, name):
        return [line for line in self.get("/metrics").splitlines() if line.startswith(name)]

    def judgements(self):
        (line,) = self.metric_lines("gpuward_agent_judgements_total ")
        return float(line.split()[1])

    def stop(self, number=signal.SIGTERM):
        """End it; returns its exit status and what it said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=200)
        return self.process.returncode, said


def run(command, config, env=None):
    argv = [sys.executable, "-P", "-m", "gpuward.agent", command, "--config", str(config)]
    return subprocess.Popen(
        argv,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, within_s=200):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def agent(tmp_path):
    agent = Agent(tmp_path)
    yield agent
    if agent.process is not None and agent.process.poll() is None:
        agent.stop(signal.SIGKILL)


@pytest.fixture
def driver(tmp_path):
    """A simulated node of eight H100: its state, and the environment that shows it."""
    libraries = pytest.importorskip("gpuward.simulator.libraries")
    profile = pytest.importorskip("gpuward.simulator.profile")
    state_module = pytest.importorskip("gpuward.simulator.state")
    machine = profile.load("h100-sxm-x8")
    state = state_module.State.create(tmp_path / "driver", len(machine.gpus))
    machine.write_to(state)
    try:
        env = libraries.environment(state.path, tmp_path)
    except libraries.NotBuiltError as error:
        pytest.skip(str(error))
    yield state, env
    state.row.closed = 1
    state.close()


@pytest.mark.parametrize(
    ("text", "status", "what"),
    [
        pytest.param("[htpp]", 2, "unknown field `htpp`", id="unknown table"),
        pytest.param("[http", 2, "Expected ']'", id="no TOML"),
        pytest.param('[http]\naddress = "9477"', 2, "host:port - at `$.http`", id="no address"),
        pytest.param(None, 2, "No such file", id="no file"),
        pytest.param(
            '[state]\ndirectory = "/dev/null/x"\n[grpc]\naddress = "127.0.0.1:0"',
            1,
            "[state] directory /dev/null/x: Not a directory",
            id="a folder that cannot be",
        ),
    ],
)
def test_what_it_cannot_do_is_one_line(tmp_path, text, status, what):
    """2 wants a person, 1 may be better in a moment; never a traceback."""
    config = tmp_path / "agent.toml"
    if text is not None:
        config.write_text(text)
    process = run("run", config)
    _, said = process.communicate(timeout=200)

    assert process.returncode == status
    assert said.startswith("gpuward agent: ")
    assert what in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("table", ["http", "grpc"])
def test_a_taken_port_is_one_line(agent, table):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = f'[{table}]\naddress = "127.0.0.1:0"'
        text = agent.config.read_text().replace(free, free.replace(":0", f":{port}"))
        agent.config.write_text(text)
        process = run("run", agent.config)
        _, said = process.communicate(timeout=200)

    assert process.returncode == 1
    assert said.startswith(f"gpuward agent: [{table}] address 127.0.0.1:{port}: ")
    assert said.endswith("or choose another\n")
    assert said.count("\n") == 1


def test_a_second_agent_leaves_the_spool_alone(agent):
    agent.start()

    second = run("run", agent.config)
    _, said = second.communicate(timeout=200)

    assert (second.returncode, said.count("\n")) == (1, 1)
    assert "another agent runs here" in said
    agent.get("/readyz")
    agent.stop(signal.SIGKILL)
    agent.start()


def test_check_config(agent):
    process = run("check-config", agent.config)
    out, said = process.communicate(timeout=200)

    assert (process.returncode, out, said) == (0, f"{agent.config}: ok\n", "")
    assert not (agent.folder / "state").exists(), "it changes nothing"


@pytest.mark.simulator
def test_every_gpu_is_on_the_first_page(agent, driver):
    """Ready means: each GPU has its figures; SIGTERM ends it with status 0, in peace."""
    state, env = driver
    agent.start(env)
    page = agent.get("/metrics")
    status, said = agent.stop()

    for index in range(8):
        uuid = state.gpu(index).uuid.decode()
        for name in (
            "memory_used_bytes",
            "utilization_ratio",
            "power_draw_watts",
            "sm_clock_hertz",
        ):
            assert f'gpuward_gpu_{name}{{gpu="{uuid}"}} ' in page
    assert "\ngpuward_driver_up 1.0\n" in page
    assert status == 0
    assert "Traceback" not in said


@pytest.mark.simulator
def test_a_hung_driver_is_found_and_stops_nothing(agent, driver):
    """Pages are served all the time, the agent stays ready, the finding comes within 15 s.

    Seconds are the agent's: it judges once in each, and seldomer on a machine that is too busy.
    """
    state, env = driver
    agent.start(env)
    hung_at, judged = time.monotonic(), agent.judgements()
    state.gpu(2).hang_groups = (1 << 13) - 1
    wait_for(lambda: agent.metric_lines("gpuward_finding_open"))
    found_after_s, judged = time.monotonic() - hung_at, agent.judgements() - judged
    ready = agent.get("/readyz")
    # The silent GPU's figures vanish, the others' do not.
    wait_for(lambda: len(agent.metric_lines("gpuward_gpu_power_draw_watts")) == 7)
    state.gpu(2).hang_groups = 0
    status, _ = agent.stop()

    assert found_after_s >= 9
    assert judged <= 15
    assert ready == "ok\n"
    assert status == 0


@pytest.mark.simulator
def test_a_driver_that_comes_later_is_found(agent, driver):
    state, env = driver
    state.row.driver_loaded = 0
    agent.start(env)
    before = agent.metric_lines("gpuward_driver_up")
    state.row.driver_loaded = 1
    wait_for(lambda: agent.metric_lines("gpuward_driver_up") == ["gpuward_driver_up 1.0"])
    _, said = agent.stop()

    assert before == ["gpuward_driver_up 0.0"]
    assert said.count("driver.missing") == 1
    assert said.count("driver.answered") == 1


@pytest.mark.simulator
def test_an_xid_survives_kill_9(agent, driver):
    """The finding is open again after the restart, and its event is in the spool once."""
    _, env = driver
    agent.start(env)
    with agent.kmsg.open("a") as kmsg:
        kmsg.write(XID_79.format(usec=int(time.monotonic() * 1e6)))
    wait_for(lambda: agent.metric_lines("gpuward_finding_open"))
    before = agent.metric_lines("gpuward_finding_open")
    wait_for(lambda: agent.metric_lines("gpuward_agent_spool_events 1.0"))
    os.killpg(agent.process.pid, signal.SIGKILL)
    agent.process.communicate()
    agent.start(env)
    wait_for(lambda: agent.metric_lines("gpuward_finding_open"))
    after = agent.metric_lines("gpuward_finding_open")
    agent.stop()

    assert before == after
    assert 'kind="gpu.xid",code="79",class="page",result="fail"' in before[0]
    with sqlite3.connect(agent.folder / "state" / "spool.db") as database:
        assert database.execute("SELECT count(*) FROM event").fetchone() == (1,)


def test_a_disk_that_is_read_only_keeps_nobody_from_watching(agent, tmp_path):
    """What is lost is said, and what mends it; metrics and findings are there."""
    state = tmp_path / "state"
    state.mkdir()
    own_mounts = ("unshare", "--user", "--map-root-user", "--mount")
    if subprocess.run((*own_mounts, "true"), capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    script = 'mount -t tmpfs -o ro none "$1" && shift && exec "$@"'
    command = (sys.executable, "-P", "-m", "gpuward.agent", "run", "--config", str(agent.config))
    with subprocess.Popen(
        (*own_mounts, "sh", "-c", script, "sh", str(state), *command),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        said = {}
        for line in process.stderr:
            entry = json.loads(line.partition(">")[2])
            said[entry["event"]] = entry
            if {"agent.started", "state.not_kept"} <= said.keys():
                break
        agent.http = said["agent.started"]["http"]
        with agent.kmsg.open("a") as kmsg:
            kmsg.write(XID_79.format(usec=int(time.monotonic() * 1e6)))
        wait_for(lambda: agent.metric_lines("gpuward_finding_open"))
        os.killpg(process.pid, signal.SIGTERM)

    assert process.returncode == 0
    assert said["state.not_kept"]["reason"] == (
        f"{state} is on a read-only file system: spool, history and what was learned end with this"
        " process: mount it writable"
    )
