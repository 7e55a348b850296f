"""A probe worker lets go of the driver when it is asked to, and says so when it has."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpuward.agent.probe_workers import Workers
from gpuward.agent.samplers import probe as probe_sampler
from gpuward.agent.samplers.probe import ProbeSampler
from gpuward.agent.window import Window


def ask(path, request):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.settimeout(200)
        caller.connect(str(path))
        caller.send(request)
        return json.loads(caller.recv(65_536))


def sampler(folder):
    return ProbeSampler(
        Workers(folder),
        lambda now_s: Window.of(now_s=now_s),
        proc_root=Path("/proc"),
        pci_devices=folder / "none",
    )


def holds(pid, path):
    return path in [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]


# A worker whose probe opens a file, as CUDA opens the driver, and never closes it.
CLINGING = """
import sys
from gpuward.agent import probe_worker
from gpuward.agent.probes import card, table
from gpuward.agent.probes.figure import Figure


def run(probe, device, meter):
    card._opened.append(open(sys.argv.pop()))
    return [Figure("launch_seconds", 0.5)]


table.run = run
probe_worker.main(sys.argv[1:-1])
"""


@pytest.fixture
def clinging(tmp_path):
    """A worker at the socket of a GPU; gives its pid and what it will open."""
    device, path = tmp_path / "nvidia0", tmp_path / "GPU-aaaa.sock"
    device.touch()
    arguments = ["--gpu", "cpu", "--socket", str(path), str(device)]
    with subprocess.Popen([sys.executable, "-c", CLINGING, *arguments]) as worker:
        while not path.exists():
            time.sleep(0.01)
        yield worker.pid, device
        worker.terminate()


async def test_release_closes_what_the_worker_holds(clinging, tmp_path):
    """Its answer is the proof: the same process, listening again, has nothing open any more."""
    pid, device = clinging
    path = tmp_path / "GPU-aaaa.sock"
    measured = ask(path, b'{"probe": "latency"}')
    held_before = holds(pid, device)
    still_held = await sampler(tmp_path).let_go()
    held_after = holds(pid, device)
    # The real program by now.
    measured_again = ask(path, b'{"probe": "latency"}')

    assert (measured["figures"]["launch_seconds"], measured["holds_context"]) == (0.5, True)
    assert (held_before, held_after) == (True, False)
    assert still_held == ()
    assert "launch_longest_seconds" in measured_again["figures"]
    assert measured_again["holds_context"] is False


async def test_release_names_the_workers_that_do_not_let_go(tmp_path, monkeypatch):
    """Silence is a worker that may hold the GPU; a socket that nobody listens at is none."""
    monkeypatch.setattr(probe_sampler, "LET_GO_S", 0.05)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as gone,
    ):
        silent.bind(str(tmp_path / "GPU-aaaa.sock"))
        silent.listen(1)
        gone.bind(str(tmp_path / "GPU-bbbb.sock"))

        assert await sampler(tmp_path).let_go() == ("GPU-aaaa",)
