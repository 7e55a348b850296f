"""Unmodified tools from PyPI, in an environment of their own, show the profile's numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.simulator

PEERS = Path(sys.prefix) / "peers" / "bin"
SIMULATE = (sys.executable, "-c", "from gpuward.cli.main import main; main()", "simulate")


@pytest.fixture
def run(libraries, tmp_path):
    """Run a tool under a profile; it must exit 0."""
    if not PEERS.exists():
        pytest.skip(f"{PEERS.parent} is not made: pip install -r tests/simulator/peers.txt there")

    def run(profile, tool, *arguments):
        done = subprocess.run(
            [*SIMULATE, profile, "--", str(PEERS / tool), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize(
    ("profile", "tool", "lines"),
    [
        pytest.param(
            "h100-sxm-x8",
            ("nvitop", "-1", "--ascii"),
            {
                "Driver Version: 580.95.05": 1,
                "H100 80GB HBM3        On": 8,
                "N/A   31C   P0     71W / 700W |        0B / 79.65GiB |      0%      Default": 8,
                "00000000:DF:00.0": 1,
                "Disabled           0": 8,
            },
            id="nvitop, H100",
        ),
        pytest.param(
            "rtx4090-x1",
            ("nvitop", "-1", "--ascii"),
            {"30%   34C   P8     20W / 450W |        0B / 23.99GiB": 1, "N/A |": 1},
            id="nvitop, RTX 4090",
        ),
        pytest.param(
            "h100-sxm-x8",
            ("py3smi",),
            {
                "Driver Version: 580.95.05": 1,
                "N/A%  31C    0   71W / 700W |   479MiB / 81559MiB": 8,
            },
            id="py3smi, H100",
        ),
    ],
)
def test_tables(run, profile, tool, lines):
    """A table shows each number as often as there are GPUs."""
    shown = run(profile, *tool)

    assert {line: shown.count(line) for line in lines} == lines


def test_gpustat(run):
    """gpustat's JSON holds the profile's numbers for all eight GPUs."""
    shown = json.loads(run("h100-sxm-x8", "gpustat", "--json"))

    assert shown["driver_version"] == "580.95.05"
    assert [gpu["index"] for gpu in shown["gpus"]] == list(range(8))
    for gpu in shown["gpus"]:
        assert {key: value for key, value in gpu.items() if key not in ("index", "uuid")} == {
            "name": "NVIDIA H100 80GB HBM3",
            "temperature.gpu": 31,
            "fan.speed": None,
            "utilization.gpu": 0,
            "utilization.enc": 0,
            "utilization.dec": 0,
            "power.draw": 71,
            "enforced.power.limit": 700,
            "memory.used": 0,
            "memory.total": 81559,
            "processes": [],
        }
