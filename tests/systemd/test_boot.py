"""The units under a real, booted systemd."""

from __future__ import annotations

import time

import pytest

pytestmark = [pytest.mark.debian, pytest.mark.timeout(120)]

# Says that it is ready, then never feeds the watchdog: what a judge loop that hangs looks like.
HUNG_AGENT = """#!/opt/python/bin/python3
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(600)
"""
# The shipped unit, with a watchdog that a test can wait for.
HUNG_UNIT = """
[Service]
Environment=LD_LIBRARY_PATH=/opt/python/lib
ExecStart=
ExecStart=/usr/local/bin/hung
StateDirectory=hung
WatchdogSec=1
"""


def test_tap_directory(machine):
    """Anyone may publish, the group may look, nobody removes another's file."""
    assert machine.run("stat", "-c", "%a %U:%G", "/run/gpuward/tap") == "3773 root:gpuward"


def test_a_hung_loop_is_restarted(machine):
    """systemd aborts and restarts a daemon that says ready and then stops feeding the watchdog."""
    machine.write("/usr/local/bin/hung", HUNG_AGENT, mode=0o755)
    unit = machine.run("cat", "/usr/lib/systemd/system/gpuward-agent.service") + "\n" + HUNG_UNIT
    machine.write("/run/systemd/system/hung.service", unit)
    machine.start("hung.service")

    deadline = time.monotonic() + 30
    while machine.show("hung.service", "NRestarts")["NRestarts"] == "0":
        assert time.monotonic() < deadline, "not restarted"
        time.sleep(0.2)
    machine.run("systemctl", "stop", "hung.service")
    journal = machine.run("journalctl", "--no-pager", "--unit=hung.service")

    assert "Watchdog timeout (limit 1s)!" in journal
