"""`make gpu` where there is no GPU: it says so, and its tests pass on the simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuward.simulator import profile
from gpuward.simulator.cuda_stubs import torch_environment
from gpuward.simulator.cuda_symbols import TorchError
from gpuward.simulator.libraries import NotBuiltError
from gpuward.simulator.state import State

ROOT = Path(__file__).parents[2]
RUN = Path(__file__).with_name("run.py")
TORCH_PYTHON = os.environ.get("GPUWARD_TORCH_PYTHON", ROOT / ".venv" / "torch" / "bin" / "python")
RECORDED = {
    *("costs", "nvml-answers", "probe-costs", "probe-neighbour", "releasable", "stall"),
    *("tap-phases", "traces", "workers"),
}


def test_without_a_gpu_it_says_what_it_lacks():
    """One message in plain words, a status that is not 0, no traceback, nothing skipped."""
    done = subprocess.run(
        [sys.executable, "-I", RUN],
        env={"PATH": os.environ["PATH"], "GPUWARD_TORCH_PYTHON": "/nowhere/python"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("make gpu cannot run here. It lacks:\n  1. ")
    assert "torch: GPUWARD_TORCH_PYTHON is /nowhere/python: No such file" in done.stderr
    assert "It would run tests/gpu on the first NVIDIA GPU" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def state(tmp_path):
    """Eight simulated H100."""
    machine = profile.load("h100-sxm-x8")
    state = State.create(tmp_path / "driver", len(machine.gpus))
    machine.write_to(state)
    yield state
    state.row.closed = 1
    state.close()


@pytest.fixture
def simulated(state):
    """The environment in which a program sees them."""
    if not Path(TORCH_PYTHON).exists():
        pytest.skip("no CUDA build of torch in .venv/torch: make .venv/torch.stamp")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "CI") if name in os.environ}
    try:
        environment = torch_environment(Path(TORCH_PYTHON), kept)
    except (NotBuiltError, TorchError) as error:
        pytest.skip(str(error))
    return environment | {
        # CuPy takes no driver but NVIDIA's.
        "PYTHONPATH": str(ROOT / "tests" / "starts" / "simulated"),
        "GPUWARD_SIM_STATE": str(state.path),
        "GPUWARD_TORCH_PYTHON": str(TORCH_PYTHON),
    }


@pytest.mark.torch
@pytest.mark.simulator
@pytest.mark.timeout(600)
def test_it_passes_on_the_simulated_card(simulated, tmp_path):
    """All but the figures: those of a simulated card are of no use, so here only their shape."""
    recorded = tmp_path / "recorded"
    log = tmp_path / "log"
    options = ("--quick", "--record", recorded, "-v", "--deselect", "tests/agent/test_probes.py")
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, RUN, *options],
            env=simulated,
            stdout=output,
            stderr=output,
            check=False,
        )

    assert 0 == done.returncode, log.read_text()
    assert "SKIPPED" not in log.read_text()
    readme = (recorded / "README.md").read_text()
    for path in recorded.glob("*.json"):
        json.loads(path.read_text())
        assert f"`{path.name}`" in readme
    assert "(a simulated NVIDIA H100 80GB HBM3, driver 580." in readme
    assert {path.stem for path in recorded.glob("*.json")} == RECORDED
    assert sum(path.stat().st_size for path in recorded.iterdir()) < 5_000_000


@pytest.mark.torch
@pytest.mark.simulator
@pytest.mark.timeout(60)  # torch is imported
def test_who_waits_is_measured(simulated, state):
    """Where each allocation takes a tenth of a second, polling stops Python for as long."""
    state.row.delay_groups = 1 << 12  # CALLS_CUDA
    state.row.delay_microseconds = 100_000
    done = subprocess.run(
        [TORCH_PYTHON, Path(__file__).parent / "programs" / "stall.py", "3"],
        env=simulated,
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(done.stdout)

    assert found["with polling"]["pause_s"] > 0.08
    assert found["with polling"]["pause_s"] > found["without polling"]["pause_s"]
