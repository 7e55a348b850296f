"""The units under a real, booted systemd, running the working tree."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.debian

AGENT, COORDINATOR, PROBE = (
    "gpuward-agent.service",
    "gpuward-coordinator.service",
    "gpuward-probe@cpu.service",
)
# Bits of CAP_FOWNER (3), CAP_SYS_PTRACE (19), CAP_SYSLOG (34).
THREE_CAPABILITIES = "0000000400080008"

# Says that it is ready, then never feeds the watchdog: what a judge loop that hangs looks like.
HUNG_AGENT = """#!/usr/bin/python3
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(600)
"""


@pytest.fixture
def variant(machine):
    """Install the agent's unit once more under another name, with lines of its own."""

    def install(name, lines):
        unit = machine.run("cat", f"/usr/lib/systemd/system/{AGENT}")
        own = f"[Service]\nStateDirectory={name}\n{lines}"
        machine.write(f"/run/systemd/system/{name}.service", f"{unit}\n{own}")
        machine.run("systemctl", "daemon-reload")
        return f"{name}.service"

    return install


def wait_for(check, what):
    """Return once ``check()`` is true; a machine has 30 s for anything."""
    deadline = time.monotonic() + 200
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.parametrize("unit", [AGENT, COORDINATOR])
def test_service_says_that_it_is_ready(machine, unit):
    """`systemctl start` returns when the daemon serves, and the watchdog is armed."""
    machine.start(unit)

    shown = machine.show(
        unit, "ActiveState", "SubState", "Type", "NotifyAccess", "WatchdogUSec", "StatusText"
    )

    assert shown.pop("StatusText")
    assert {
        "ActiveState": "active",
        "SubState": "running",
        "Type": "notify",
        "NotifyAccess": "main",
        "WatchdogUSec": "30s",
    } == shown


@pytest.fixture
def fast_watchdog(machine):
    """Both daemons under a watchdog of two seconds, for one test."""
    for unit in (AGENT, COORDINATOR):
        machine.write(f"/run/systemd/system/{unit}.d/fast.conf", "[Service]\nWatchdogSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", AGENT, COORDINATOR)
    yield
    for unit in (AGENT, COORDINATOR):
        machine.run("rm", f"/run/systemd/system/{unit}.d/fast.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", AGENT, COORDINATOR)


def test_watchdog_is_fed(machine, fast_watchdog):
    """Two watchdog periods later the same processes still run."""
    before = {unit: machine.show(unit, "MainPID", "NRestarts") for unit in (AGENT, COORDINATOR)}

    time.sleep(5)

    after = {unit: machine.show(unit, "MainPID", "NRestarts") for unit in (AGENT, COORDINATOR)}
    assert before == after


def test_agent_answers_without_a_driver(machine):
    """A node whose driver is missing is watched all the same, and says so."""
    machine.start(AGENT)

    metrics = machine.get("http://127.0.0.1:9477/metrics")

    assert "gpuward_driver_up 0" in metrics
    assert machine.get("http://127.0.0.1:9477/healthz")


def test_coordinator_answers(machine):
    """Its page is there, its database in its own folder."""
    machine.start(COORDINATOR)

    assert "Incidents" in machine.get("http://127.0.0.1:9480/")
    assert "ready" in machine.get("http://127.0.0.1:9480/readyz")
    assert "Nothing is open." in machine.run("gpuward", "incidents", "list")
    folder = "/var/lib/gpuward-coordinator"
    assert machine.run("stat", "-c", "%a %U", folder) == "700 gpuward-coordinator"


def test_agent_has_three_capabilities(machine):
    """What the unit promises is what the kernel holds the process to."""
    machine.start(AGENT)
    pid = machine.show(AGENT, "MainPID")["MainPID"]

    status = dict(
        line.split(":\t", 1)
        for line in machine.run("cat", f"/proc/{pid}/status").splitlines()
        if ":\t" in line
    )

    assert status["CapBnd"] == THREE_CAPABILITIES
    assert status["CapEff"] == THREE_CAPABILITIES
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_coordinator_has_no_capability(machine):
    """It is a program of an ordinary user."""
    machine.start(COORDINATOR)
    pid = machine.show(COORDINATOR, "MainPID")["MainPID"]

    status = machine.run("cat", f"/proc/{pid}/status")

    assert "CapBnd:\t0000000000000000" in status
    assert machine.run("ps", "-o", "user:32=", "-p", pid) == "gpuward-coordinator"


def test_probe_worker_serves_the_agent(machine):
    """The socket is there for the agent's group, and the agent exports what the worker measures."""
    machine.run("systemctl", "restart", PROBE)
    socket = "/run/gpuward-probe/cpu.sock"
    wait_for(lambda: machine.run("ls", socket, check=False), "the worker makes no socket")
    assert machine.run("stat", "-c", "%a %U:%G", socket) == "660 gpuward-probe:gpuward"
    machine.run("systemctl", "restart", AGENT)

    wait_for(
        lambda: "gpuward_probe_" in machine.get("http://127.0.0.1:9477/metrics"),
        "no figure of a probe in /metrics",
    )


def test_tap_directory(machine):
    """Anyone may publish, the group may look, nobody else may list; it outlives the agent."""
    machine.start(AGENT)
    machine.run("systemctl", "stop", AGENT)
    tap = "/run/gpuward/tap"
    anyone = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

    machine.run(*anyone, "touch", f"{tap}/mine")

    assert machine.run("stat", "-c", "%a %U:%G", tap) == "3773 root:gpuward"
    assert machine.run("stat", "-c", "%u:%G", f"{tap}/mine") == "65534:gpuward"
    assert machine.run(*anyone, "ls", tap, check=False) == ""
    machine.run("rm", f"{tap}/mine")


@pytest.mark.parametrize("unit", [AGENT, COORDINATOR])
def test_stops_in_order(machine, unit):
    """SIGTERM is enough, well within TimeoutStopSec, and leaves no process."""
    machine.start(unit)

    machine.run("systemctl", "stop", unit)

    shown = machine.show(unit, "ActiveState", "Result", "MainPID", "ExecMainStatus")
    assert {
        "ActiveState": "inactive",
        "Result": "success",
        "MainPID": "0",
        "ExecMainStatus": "0",
    } == shown


def test_a_killed_agent_comes_back(machine):
    """Restart=always."""
    machine.start(AGENT)
    pid = machine.show(AGENT, "MainPID")["MainPID"]

    machine.run("kill", "-KILL", pid)

    wait_for(
        lambda: (
            machine.show(AGENT, "ActiveState")["ActiveState"] == "active"
            and machine.show(AGENT, "MainPID")["MainPID"] not in {"0", pid}
        ),
        "not restarted",
    )


def test_a_hung_loop_is_restarted(machine, variant):
    """systemd aborts and restarts a daemon that says ready and then stops feeding the watchdog."""
    machine.write("/usr/local/bin/hung", HUNG_AGENT, mode=0o755)
    unit = variant("hung", "ExecStart=\nExecStart=/usr/local/bin/hung\nWatchdogSec=1\n")
    machine.start(unit)

    wait_for(lambda: machine.show(unit, "NRestarts")["NRestarts"] != "0", "not restarted")
    machine.run("systemctl", "stop", unit)

    journal = machine.run("journalctl", "--no-pager", f"--unit={unit}")
    assert "Watchdog timeout (limit 1s)!" in journal


def test_a_wrong_configuration_is_not_retried(machine, variant):
    """One line names the place, the unit has failed, and nothing restarts for ever."""
    machine.write("/etc/gpuward/wrong.toml", "[tap]\nfolder = 1\n")
    command = "/usr/bin/gpuward agent run --config /etc/gpuward/wrong.toml"
    unit = variant("wrong", f"ExecStart=\nExecStart={command}\n")

    machine.run("systemctl", "start", unit, check=False)

    shown = machine.show(unit, "ActiveState", "ExecMainStatus", "NRestarts")
    assert {"ActiveState": "failed", "ExecMainStatus": "2", "NRestarts": "0"} == shown
    journal = machine.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")
    assert "/etc/gpuward/wrong.toml" in journal
    assert "Traceback" not in journal
