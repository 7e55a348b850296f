"""The probe worker and its sampler, over a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from gpuward.agent import probe_worker
from gpuward.agent.model import Gpu, Result, SeriesKey
from gpuward.agent.probes.figure import Figure, Stalled
from gpuward.agent.samplers.probe import ProbeSampler

GIB = 1 << 30
GPUS = (Gpu("GPU-aaaa", 0, "H100", "0000:10:00.0"), Gpu("GPU-bbbb", 1, "H100", "0000:11:00.0"))


@pytest.mark.parametrize(
    "request_",
    [b"", b"x", b"{}", b"[]", b"1", b'{"probe": 1}', b'{"probe": []}', b"[" * 4_000, b"\xff"],
)
def test_request_that_is_none(request_):
    """What is no request is refused with what would be one."""
    reply = probe_worker.answer(request_, "cpu")

    assert reply["error"] == "refused"
    assert "latency" in reply["reason"]


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        pytest.param(Stalled("no answer"), "stalled", id="stalled"),
        pytest.param(ImportError("no cupy"), "unsupported", id="library missing"),
    ],
)
def test_conditions(monkeypatch, raised, error):
    """A probe that could not measure says why."""

    def probe(device):
        raise raised

    monkeypatch.setitem(probe_worker.PROBES, "latency", probe)

    assert probe_worker.answer(b'{"probe": "latency"}', "cpu") == {
        "error": error,
        "reason": str(raised),
    }


def test_unnamed_error_ends_the_worker(monkeypatch):
    """After an error of CUDA its context serves nobody: a new worker has to come."""

    def probe(device):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")

    monkeypatch.setitem(probe_worker.PROBES, "latency", probe)

    with pytest.raises(RuntimeError):
        probe_worker.answer(b'{"probe": "latency"}', "cpu")


def test_figures(monkeypatch):
    """Figures go by name."""
    monkeypatch.setitem(probe_worker.PROBES, "latency", lambda device: [Figure("a_seconds", 0.5)])

    assert probe_worker.answer(b'{"probe": "latency"}', "cpu") == {"figures": {"a_seconds": 0.5}}


def test_gpu_worker_sees_its_gpu_only():
    """CUDA is told before it is loaded which GPU there is."""
    assert probe_worker.environment("GPU-aaaa")["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa"
    assert "CUDA_VISIBLE_DEVICES" not in probe_worker.environment("cpu")


def ask(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.settimeout(10)
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
        status = worker.wait(10)

    assert [reply["figures"]["launch_seconds"] > 0 for reply in replies] == [True, True]
    assert mode == 0o660
    assert status == 0
    assert not path.exists()


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
            status = worker.wait(10)
            stays = path.exists()

    assert "figures" in reply
    assert (status, stays) == (0, True)


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


async def test_sampler_starts_the_worker_of_the_processor(tmp_path):
    """Where nobody serves, the agent starts a worker, asks it, and stops it at its own end."""
    async with ProbeSampler(tmp_path, mode="cpu") as probe:
        first = await probe.sample(1_000.0)
        trouble = probe.health
        batch = first
        while not batch.samples:
            await asyncio.sleep(0.05)
            batch = await probe.sample(1_000.0)
        healthy = probe.health
        pid = probe._worker.pid

    (sample,) = batch.samples
    assert sample.key == SeriesKey("probe_launch_seconds")
    assert 0 < sample.value < 2
    assert (trouble.result, trouble.reason) == (Result.UNKNOWN, "cpu: no worker")
    assert healthy.result is Result.OK
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


class Workers:
    """Sockets that answer as told."""

    def __init__(self, folder):
        self.folder = folder
        self.asked = []
        self._listeners = []

    def add(self, device, reply):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self.folder / f"{device}.sock"))
        listener.listen()
        listener.setblocking(False)
        self._listeners.append(listener)
        loop = asyncio.get_running_loop()

        def accept():
            caller, _ = listener.accept()
            loop.add_reader(caller, answer, caller)

        def answer(caller):
            loop.remove_reader(caller)
            assert caller.recv(4_096) == b'{"probe": "latency"}'
            self.asked.append(device)
            caller.send(reply)
            caller.close()

        loop.add_reader(listener, accept)

    def close(self):
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()


@pytest.fixture
async def workers(tmp_path):
    workers = Workers(tmp_path)
    workers.add("cpu", b'{"figures": {"launch_seconds": 0.001}}')
    yield workers
    workers.close()


@pytest.mark.parametrize(
    ("mode", "free_bytes", "asked"),
    [
        pytest.param("off", GIB, [], id="off"),
        pytest.param("cpu", GIB, ["cpu"], id="the processor only"),
        pytest.param("auto", GIB, ["GPU-aaaa", "cpu"], id="GPUs with a worker"),
        pytest.param("auto", GIB - 1, ["cpu"], id="not where memory is short"),
        pytest.param("auto", None, ["cpu"], id="not where it is unknown"),
    ],
)
async def test_modes(workers, tmp_path, mode, free_bytes, asked):
    """A GPU is probed where somebody enabled its worker and a gigabyte is free."""
    workers.add("GPU-aaaa", b'{"figures": {"launch_seconds": 0.002}}')
    async with ProbeSampler(
        tmp_path, mode=mode, gpus=lambda: GPUS, free_bytes=lambda _: free_bytes
    ) as probe:
        batch = await probe.sample(1_000.0)

    assert sorted(workers.asked) == asked
    assert sorted(s.key.gpu or "cpu" for s in batch.samples) == asked


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(b'{"error": "stalled", "reason": "2 s"}', "stalled: 2 s", id="stalled"),
        pytest.param(b"not JSON", "malformed", id="garbage"),
        pytest.param(b'{"figures": {"launch_seconds": "x"}}', "float", id="no number"),
    ],
)
async def test_worker_without_figures(workers, tmp_path, reply, reason):
    """What keeps a worker from measuring is said, and makes no sample."""
    workers.add("GPU-aaaa", reply)
    async with ProbeSampler(tmp_path, gpus=lambda: GPUS, free_bytes=lambda _: GIB) as probe:
        batch = await probe.sample(1_000.0)

    assert [sample.key.gpu for sample in batch.samples] == [""]
    assert probe.health.result is Result.UNKNOWN
    assert probe.health.reason.startswith("GPU-aaaa: ")
    assert reason in probe.health.reason


async def test_nobody_on_a_gpu_is_asked_while_it_is_released(workers, tmp_path):
    """A question would open the driver again; the processor's worker holds nothing of it."""
    workers.add("GPU-aaaa", b'{"figures": {"launch_seconds": 0.002}}')
    sampler = ProbeSampler(
        tmp_path, gpus=lambda: GPUS, free_bytes=lambda _: GIB, is_released=lambda: True
    )
    async with sampler as probe:
        await probe.sample(1_000.0)

    assert workers.asked == ["cpu"]
