"""What the units in systemd/ promise, as far as systemd can say without starting them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
NAMES = ["gpuward-agent.service", "gpuward-coordinator.service", "gpuward-probe@.service"]

pytestmark = [
    pytest.mark.debian,
    pytest.mark.skipif(
        shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
    ),
]


@pytest.fixture
def installed(tmp_path):
    """The units with a stand-in for the programs, which only a package installs."""
    program = tmp_path / "gpuward"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in NAMES:
        text = (UNITS / name).read_text()
        for path in ("/usr/bin/gpuward", "/usr/bin/python3"):
            text = text.replace(f"={path} ", f"={program} ")
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_verify_is_silent(installed, name):
    """Unknown keys are only warnings to systemd, so not a word may be printed."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", installed / name],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("name", NAMES)
def test_exposure(name):
    """`systemd-analyze security` puts no unit above 4.5 of 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=45", UNITS / name],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param("gpuward-agent.service", "DeviceAllow=char-nvidia* rw", id="GPUs"),
        pytest.param("gpuward-agent.service", "DeviceAllow=char-195 rw", id="a later driver"),
        pytest.param("gpuward-agent.service", "DeviceAllow=/dev/kmsg r", id="kernel log"),
        pytest.param(
            "gpuward-agent.service",
            "CapabilityBoundingSet=CAP_FOWNER CAP_SYS_PTRACE CAP_SYSLOG",
            id="three capabilities",
        ),
        pytest.param("gpuward-coordinator.service", "CapabilityBoundingSet=", id="none"),
        pytest.param("gpuward-agent.service", "Restart=always", id="agent comes back"),
        pytest.param("gpuward-coordinator.service", "Restart=always", id="coordinator comes back"),
        pytest.param("gpuward.tmpfiles.conf", "d /run/gpuward/tap 3773 root gpuward -", id="tap"),
    ],
)
def test_line(name, line):
    """These lines are contracts with the rest of the system or with the reader of the README."""
    assert line in (UNITS / name).read_text().splitlines()
