"""`gpuward demo`: the whole system on real parts, from the first fault to the review."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.simulator, pytest.mark.timeout(600)]

DEMO = (sys.executable, "-m", "gpuward.simulator.demo")


def test_once_plays_to_the_review(left_behind):
    """Exit status 0; the story in its order; the review on disk; no process left."""
    done = subprocess.run(
        [*DEMO, "--once", "--speed", "120"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    told = [
        "sees 8 GPUs",
        "process.memory.fragmentation",
        "opened SEV",
        "L1 is due: page ada by pager",
        "nobody acknowledged in time",
        "L1-repeat is due: page ada by pager, chat",
        "L2 is due: page grace by pager",
        "grace acknowledges",
        "L3 is due: page edsger, barbara by pager",
        "restarts inference-1",
        "mitigated",
        "grace resolves",
        "# Review of incident",
        "every step was checked",
    ]
    places = [done.stdout.find(line) for line in told]
    assert -1 not in places, told[places.index(-1)]
    assert sorted(places) == places
    # When the process may be walked is up to its tap.
    assert "memory map of gpuward.simulator.workload: " in done.stdout
    assert "- Evidence: the memory map of gpuward.simulator.workload (pid " in done.stdout
    assert "\x1b[" not in done.stdout
    root = re.search(r"logs, pages and review: (\S+)", done.stdout)[1]
    assert [] == left_behind(root)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing_behind(number, left_behind):
    """In the middle of the story: every part ends, exit status 130."""
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True) as demo:
        root = ""
        for line in demo.stdout:
            if found := re.search(r"logs, pages and review: (\S+)", line):
                root = found[1]
            if "agent: http://" in line:
                break
        running = left_behind(root)
        demo.send_signal(number)
        demo.stdout.read()

    assert 130 == demo.returncode
    assert len(running) >= 4
    assert [] == left_behind(root)


@pytest.mark.torch
def test_once_with_torch(left_behind):
    """The same story, told by torch's own allocator and the tap that torch loads."""
    if not (Path(sys.prefix) / "torch" / "bin" / "python").exists():
        pytest.skip("no CUDA build of torch in .venv/torch: make .venv/torch.stamp")
    done = subprocess.run(
        [*DEMO, "--once", "--torch", "--speed", "120"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "process.memory.fragmentation" in done.stdout
    assert "memory map of " in done.stdout
    assert [] == left_behind(re.search(r"logs, pages and review: (\S+)", done.stdout)[1])


def test_real_without_a_driver_fails_in_one_line():
    done = subprocess.run([*DEMO, "--once", "--real"], capture_output=True, text=True, check=False)
    if (
        "--real lets the agent watch" in done.stdout
        or "agent watches this machine's" in done.stdout
    ):
        pytest.skip("this machine has an NVIDIA driver")

    assert 1 == done.returncode
    assert "failed: --real: no NVIDIA driver on this machine answers" in done.stdout


def test_a_port_that_is_taken_fails_in_one_line(taken_port, left_behind):
    """Status 1, the reason, where the logs are, nothing left."""
    done = subprocess.run(
        [*DEMO, "--once", "--port", str(taken_port)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert 1 == done.returncode
    assert "failed: coordinator ended" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert [] == left_behind(re.search(r"the logs are in (\S+)", done.stdout)[1])
