"""The probe worker: what it answers, and how long it lives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gpuward.agent import probe_worker
from gpuward.agent.probes import card, table
from gpuward.agent.probes.figure import Figure, Stalled, Unsupported, Unusable


@pytest.fixture
def play(monkeypatch):
    """Let a function run in place of every probe."""

    def playing(run):
        monkeypatch.setattr(table, "run", run)

    return playing


@pytest.mark.parametrize(
    "request_",
    [
        *(b"", b"x", b"{}", b"[]", b"1", b'{"probe": 1}', b'{"probe": []}', b"[" * 4_000, b"\xff"),
        b'{"probe": "matmul"}',
        b'{"probe": "latency", "budget_s": 0}',
        b'{"probe": "latency", "budget_s": -1}',
        b'{"probe": "latency", "budget_s": 1.1}',
        b'{"probe": "latency", "budget_s": NaN}',
        b'{"probe": "latency", "budget_s": "1"}',
        b'{"status": 1}',
    ],
)
def test_request_that_is_none(play, request_):
    """What is no request is refused with what would be one, and nothing runs."""
    play(None)
    reply = probe_worker.answer(request_, "cpu")

    assert reply["error"] == "refused"
    assert "latency" in reply["reason"]


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        pytest.param(Stalled("no answer"), "stalled", id="stalled"),
        pytest.param(ImportError("no cupy"), "unsupported", id="library missing"),
        pytest.param(Unsupported("no NVRTC"), "unsupported", id="compiler missing"),
        pytest.param(Unusable("cudaErrorNoDevice"), "unusable", id="driver missing"),
    ],
)
def test_conditions(play, raised, error):
    """A probe that could not measure says why."""

    def run(probe, device, meter):
        raise raised

    play(run)

    assert probe_worker.answer(b'{"probe": "latency"}', "cpu") == {
        "error": error,
        "reason": str(raised),
        "holds_context": False,
    }


def test_unnamed_error_ends_the_worker(play):
    """After an error of CUDA its context serves nobody: a new worker has to come."""

    def run(probe, device, meter):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")

    play(run)

    with pytest.raises(RuntimeError):
        probe_worker.answer(b'{"probe": "latency"}', "cpu")


def test_figures(play):
    """They go by name, with the time of the GPU that they took; the caller says what it may be."""
    limits = []

    def run(probe, device, meter):
        limits.append((probe, device, meter.limit_s))
        meter.busy_s = 0.002
        return [Figure("a_seconds", 0.5)]

    play(run)
    replies = [
        probe_worker.answer(b'{"probe": "host_copy", "budget_s": 0.004}', "GPU-1"),
        probe_worker.answer(b'{"probe": "latency"}', "cpu"),
    ]

    assert replies[0] == {
        "figures": {"a_seconds": 0.5, "busy_seconds": 0.002},
        "holds_context": False,
    }
    assert limits == [("host_copy", "GPU-1", 0.004), ("latency", "cpu", 0.02)]


def test_status_touches_nothing(play, monkeypatch):
    """It only says whether there is a context: asked before anyone knows if one may be made."""
    play(None)
    before = probe_worker.answer(b'{"status": true}', "GPU-1")
    monkeypatch.setattr(card, "_opened", [True])

    assert before == {"figures": {}, "holds_context": False}
    assert probe_worker.answer(b'{"status": true}', "GPU-1")["holds_context"] is True


def test_the_processor_has_one_probe():
    reply = probe_worker.answer(b'{"probe": "product"}', "cpu")

    assert reply["error"] == "unsupported"


def test_gpu_worker_sees_its_gpu_only():
    """CUDA is told before it is loaded which GPU there is."""
    assert probe_worker.environment("GPU-aaaa")["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa"
    assert "CUDA_VISIBLE_DEVICES" not in probe_worker.environment("cpu")


def test_gpu_worker_is_no_client_of_mps():
    """CUDA looks for its control daemon in a folder that is not there."""
    assert not Path(probe_worker.environment("GPU-1")["CUDA_MPS_PIPE_DIRECTORY"]).exists()


def ask(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.settimeout(200)
        caller.connect(str(path))
        caller.send(b'{"probe": "latency"}')
        return json.loads(caller.recv(65_536))


def test_worker_process(tmp_path):
    """It takes over a dead worker's socket, serves callers, and leaves when asked, tidily."""
    path = tmp_path / "cpu.sock"
    path.touch()
    argv = [sys.executable, "-m", "gpuward.agent.probe_worker", "--gpu", "cpu"]
    with subprocess.Popen([*argv, "--socket", str(path)]) as worker:
        while not path.is_socket():
            assert worker.poll() is None
        replies = [ask(path), ask(path)]
        mode = path.stat().st_mode & 0o777
        worker.send_signal(signal.SIGTERM)
        status = worker.wait(200)

    assert [reply["figures"]["launch_seconds"] > 0 for reply in replies] == [True, True]
    assert mode == 0o660
    assert status == 0
    assert not path.exists()


def test_a_socket_is_there_only_once_it_listens(tmp_path, monkeypatch):
    """Whoever sees it connects at once; a worker's before it stays until then."""
    path, seen = tmp_path / "cpu.sock", []
    listens = socket.socket.listen

    def listen(self, backlog):
        seen.append(path.is_socket())
        listens(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", listen)
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with probe_worker.listen(path), probe_worker.listen(path), caller:
        caller.connect(str(path))

    assert seen == [False, True]
    assert [one.name for one in tmp_path.iterdir()] == ["cpu.sock"]


def test_worker_leaves_with_the_agent(tmp_path):
    """However the agent ends, a worker that it started ends too; another's socket stays."""
    path = tmp_path / "cpu.sock"
    theirs, ours = os.pipe()
    argv = [sys.executable, "-m", "gpuward.agent.probe_worker", "--gpu", "cpu"]
    argv += ["--socket", str(path), "--leave-with", str(theirs)]
    with subprocess.Popen(argv, pass_fds=[theirs]) as worker:
        os.close(theirs)
        while not path.is_socket():
            assert worker.poll() is None
        reply = ask(path)
        with probe_worker.listen(path):
            os.close(ours)
            status = worker.wait(200)
            stays = path.exists()

    assert "figures" in reply
    assert (status, stays) == (0, True)


UNUSABLE = """
import sys
from gpuward.agent import probe_worker
from gpuward.agent.probes import table
from gpuward.agent.probes.figure import Unusable
def run(probe, device, meter):
    raise Unusable("cudaErrorNoDevice")
table.run = run
sys.exit(probe_worker.main(sys.argv[1:]))
"""


def test_worker_without_a_driver_says_so_and_ends(tmp_path):
    """The next one may find it."""
    path = tmp_path / "GPU-1.sock"
    argv = [sys.executable, "-c", UNUSABLE, "--gpu", "cpu", "--socket", str(path)]
    with subprocess.Popen(argv) as worker:
        while not path.is_socket():
            assert worker.poll() is None
        reply = ask(path)
        status = worker.wait(200)

    assert (reply["error"], reply["reason"]) == ("unusable", "cudaErrorNoDevice")
    assert status == 0


STAYING = """
import sys
from gpuward.agent import probe_worker
from gpuward.agent.probes import card
card._opened.append(True)
sys.exit(probe_worker.main(sys.argv[1:]))
"""


def test_worker_with_a_context_stays(tmp_path):
    """Its end would give memory back; it goes on and answers the next agent until it is asked."""
    path = tmp_path / "GPU-1.sock"
    theirs, ours = os.pipe()
    argv = [sys.executable, "-c", STAYING, "--gpu", "cpu", "--socket", str(path)]
    with subprocess.Popen([*argv, "--leave-with", str(theirs)], pass_fds=[theirs]) as worker:
        os.close(theirs)
        while not path.is_socket():
            assert worker.poll() is None
        os.close(ours)
        replies = [ask(path), ask(path)]
        worker.send_signal(signal.SIGTERM)
        status = worker.wait(200)

    assert all(reply["holds_context"] for reply in replies)
    assert status == 0


def test_worker_that_cannot_listen(tmp_path):
    """One line that names the path, no traceback."""
    argv = [sys.executable, "-m", "gpuward.agent.probe_worker", "--gpu", "cpu"]
    done = subprocess.run(
        [*argv, "--socket", str(tmp_path / "none" / "x.sock")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == f"gpuward: {tmp_path}/none/x.sock: No such file or directory\n"
