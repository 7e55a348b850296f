"""The sampler of probes: whom it asks, when, and what it makes of answers; over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from gpuward.agent.mig_device import MigDevice
from gpuward.agent.model import Gpu, Process, Result, Sample, SeriesKey
from gpuward.agent.probe_place import mps_servers, root_port
from gpuward.agent.probe_rules import TICKS_PER_S
from gpuward.agent.probe_workers import Workers
from gpuward.agent.samplers import probe as module
from gpuward.agent.samplers.probe import ProbeSampler
from gpuward.agent.window import Window

GPUS = (Gpu("GPU-1", 0, "H100", "00000000:10:00.0"), Gpu("GPU-2", 1, "H100", "00000000:11:00.0"))
LATENCY = {"launch_seconds": 1e-5, "launch_event_seconds": 2e-6, "busy_seconds": 0.001}
STATUS = {"status": True}


class Played:
    """Sockets of workers that answer as told, and what they were asked."""

    def __init__(self, folder):
        self.folder = folder
        self.asked = []
        self.replies = {}
        self.holds_context = set()
        self.under_way = self.most_under_way = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self._servers = []

    def add(self, device, *figures, **reply):
        self.replies[device] = reply or {"figures": figures[0] if figures else LATENCY}
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        listener.bind(str(self.folder / f"{device}.sock"))
        listener.listen()
        self._servers.append((listener, asyncio.create_task(self._serve(listener, device))))

    async def _serve(self, listener, device):
        loop = asyncio.get_running_loop()
        while True:
            caller, _ = await loop.sock_accept(listener)
            with caller:
                caller.setblocking(False)
                request = json.loads(await loop.sock_recv(caller, 4_096))
                await loop.sock_sendall(caller, await self._answer(device, request))

    async def _answer(self, device, request):
        self.asked.append((device, request))
        if request == STATUS:
            return json.dumps({"holds_context": device in self.holds_context}).encode()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.answers.wait()
        await asyncio.sleep(0.01)
        self.under_way -= 1
        self.holds_context.add(device)
        reply = self.replies[device]
        return reply.get("raw") or json.dumps(reply | {"holds_context": True}).encode()

    def measured(self):
        return [(device, r["probe"]) for device, r in self.asked if "probe" in r]

    async def close(self):
        for listener, task in self._servers:
            task.cancel()
            await asyncio.wait([task])
            listener.close()


@pytest.fixture
async def played(tmp_path):
    played = Played(tmp_path)
    yield played
    await played.close()


class Node:
    """A node of two idle GPUs, and a sampler on it."""

    def __init__(self, folder):
        self.folder = folder
        self.gpus = GPUS
        self.processes = ()
        self.values = {"gpu_compute_mode": 0.0, "gpu_confidential_mode": 0.0}
        self.values["gpu_memory_free_bytes"] = float(8 << 30)
        self.values["gpu_memory_used_bytes"] = float(1 << 30)
        self.started = []

    def window(self, now_s):
        samples = [
            Sample(SeriesKey(signal, gpu=gpu.uuid), at_s, value)
            for gpu in self.gpus
            for signal, value in self.values.items()
            for at_s in (now_s - 60.0, now_s)
        ]
        return Window.of(samples, now_s=now_s, gpus=self.gpus, processes=self.processes)

    def sampler(self, **changes):
        workers = Workers(self.folder)
        workers.start = lambda device, now_s: self.started.append(device)
        places = {"proc_root": Path("/proc"), "pci_devices": self.folder / "pci"}
        return ProbeSampler(workers, self.window, **places, **changes)

    def below_ports(self, *ports):
        """Plug the GPUs in below these ports."""
        (self.folder / "pci").mkdir()
        for gpu, port in zip(self.gpus, ports, strict=True):
            address = gpu.pci_bus_id[4:]
            real = self.folder / f"sys/devices/pci0000:00/{port}/{address}"
            real.mkdir(parents=True)
            (self.folder / "pci" / address).symlink_to(real)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


async def turns(sampler, seconds, from_s=1_000.0):
    """Return the samples of so many turns, one a second."""
    batches = [await sampler.sample(from_s + second) for second in range(seconds)]
    return [sample for batch in batches for sample in batch.samples]


def told(samples):
    return {(s.key.signal, s.key.gpu): s.value for s in samples}


async def test_a_gpu_that_is_free_is_measured(played, node):
    """First it is asked whether it holds a context, then measured; figures get their names."""
    played.add("cpu", {"launch_seconds": 0.001, "stolen_ratio": 0.25, "copy_bytes_per_second": 9e9})
    played.add("GPU-1")
    samples = await turns(node.sampler(), 1)

    assert [asked for asked in played.asked if asked[0] == "GPU-1"] == [
        ("GPU-1", STATUS),
        ("GPU-1", {"probe": "latency", "budget_s": 0.02}),
    ]
    assert told(samples) == {
        ("probe_launch_seconds", ""): 0.001,
        ("probe_cpu_stolen_ratio", ""): 0.25,
        ("probe_cpu_copy_bytes_per_second", ""): 9e9,
        ("probe_launch_seconds", "GPU-1"): 1e-5,
        ("gpu_probe_event_seconds", "GPU-1"): 2e-6,
        ("gpu_probe_suspended", "GPU-1"): 0.0,
        ("gpu_probe_busy_seconds_total", "GPU-1"): 0.001,
    }


async def test_schedule_of_two_minutes(played, node):
    """Bursts every ten seconds or so, copies every minute or so."""
    played.add("cpu")
    played.add("GPU-1")
    await turns(node.sampler(), 120)
    counts = {probe: played.measured().count(probe) for probe in set(played.measured())}

    assert 9 <= counts["GPU-1", "latency"] <= 15
    assert 9 <= counts["cpu", "latency"] <= 15
    assert 2 <= counts["GPU-1", "host_copy"] <= 3
    assert 2 <= counts["GPU-1", "device_copy"] <= 3


@pytest.mark.parametrize(
    ("mode", "asked"),
    [("off", set()), ("cpu", {"cpu"}), ("auto", {"cpu", "GPU-1"})],
)
async def test_modes(played, node, mode, asked):
    """A GPU is measured where somebody has enabled its worker."""
    played.add("cpu")
    played.add("GPU-1")
    await turns(node.sampler(mode=mode), 2)

    assert {device for device, _ in played.asked} == asked


async def test_nobody_on_a_gpu_is_asked_while_it_is_released(played, node):
    """A question would open the driver again; the processor's worker holds nothing of it."""
    played.add("cpu")
    played.add("GPU-1")
    await turns(node.sampler(is_released=lambda: True), 2)

    assert {device for device, _ in played.asked} == {"cpu"}


async def test_beside_an_engine_that_starts_nothing_is_measured(played, node):
    """It is said why, as no fault, and measured as soon as the engine is two minutes old."""
    played.add("cpu")
    played.add("GPU-1")
    born_s = 990.0
    node.processes = (Process("vllm", 5, round(born_s * TICKS_PER_S), ("GPU-1",)),)
    sampler = node.sampler()
    samples = await turns(sampler, 1)
    health = sampler.health
    await turns(sampler, 109, from_s=1_001.0)
    before = played.measured()
    await turns(sampler, 13, from_s=1_110.0)

    assert told(samples)["gpu_probe_suspended", "GPU-1"] == 1.0
    assert (health.result, health.reason) == (Result.OK, "GPU-1: not now: vllm is 10 s old")
    assert ("GPU-1", "latency") not in before
    assert ("GPU-1", "latency") in played.measured()
    assert sampler.health.reason == ""


async def test_the_worker_is_not_taken_for_an_engine(played, node):
    """It is young too when it has just made its context; its socket says which pid it has."""
    played.add("cpu")
    played.add("GPU-1")
    node.processes = (Process("probe", os.getpid(), 999 * TICKS_PER_S, ("GPU-1",)),)
    await turns(node.sampler(), 1)

    assert ("GPU-1", "latency") in played.measured()


@pytest.mark.parametrize(("holds", "measured"), [(True, True), (False, False)])
async def test_an_agent_that_comes_back_knows_of_the_context(played, node, holds, measured):
    """One and a half GiB are enough beside a context that is there, not for making one."""
    played.add("cpu")
    played.add("GPU-1")
    node.values["gpu_memory_free_bytes"] = 1.5 * (1 << 30)
    if holds:
        played.holds_context.add("GPU-1")
    await turns(node.sampler(), 1)

    assert (("GPU-1", "latency") in played.measured()) is measured


@pytest.mark.parametrize(
    ("ports", "at_once"),
    [
        pytest.param(["port-a", "port-a"], 2, id="below one port: the processor and one"),
        pytest.param(["port-a", "port-b"], 3, id="below two"),
        pytest.param(None, 2, id="nobody knows where"),
    ],
)
async def test_one_at_a_time_below_a_port(played, node, ports, at_once):
    for device in ("cpu", "GPU-1", "GPU-2"):
        played.add(device)
    if ports:
        node.below_ports(*ports)
    sampler = node.sampler()
    played.answers.clear()
    first = asyncio.create_task(sampler.sample(999.0))
    while played.under_way < at_once:
        assert not first.done()
        await asyncio.sleep(0.005)
    played.answers.set()
    await first
    await turns(sampler, 8)

    assert played.most_under_way == at_once
    assert {device for device, _ in played.measured()} == {"cpu", "GPU-1", "GPU-2"}


async def test_what_was_spent_is_not_spent_again(played, node):
    """Bursts that take 25 ms each: two in a minute, and what is left of the 60 ms is said."""
    played.add("cpu")
    played.add("GPU-1", LATENCY | {"busy_seconds": 0.025})
    sampler = node.sampler()
    samples = await turns(sampler, 55)
    budgets = [r["budget_s"] for device, r in played.asked if device == "GPU-1" and "probe" in r]

    assert budgets == [0.02, 0.02, pytest.approx(0.01)]
    assert "60 ms of the GPU" in sampler.health.reason
    assert told(samples)["gpu_probe_busy_seconds_total", "GPU-1"] == pytest.approx(0.075)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param({"error": "stalled", "reason": "2 s"}, "GPU-1: stalled: 2 s", id="stalled"),
        pytest.param({"raw": b"not JSON"}, "malformed", id="garbage"),
        pytest.param({"figures": {"launch_seconds": "x"}}, "float", id="no number"),
    ],
)
async def test_worker_without_figures(played, node, reply, reason):
    """What keeps a worker from measuring is said; it is asked ever less often."""
    played.add("cpu")
    played.add("GPU-1", **reply)
    sampler = node.sampler()
    samples = await turns(sampler, 60)

    assert not [s for s in samples if s.key.signal == "probe_launch_seconds" and s.key.gpu]
    assert sampler.health.result is Result.UNKNOWN
    assert reason in sampler.health.reason
    assert played.measured().count(("GPU-1", "latency")) <= 3


async def test_a_worker_that_says_nothing_holds_up_its_own_turn_only(played, node, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    played.add("cpu")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(str(node.folder / "GPU-1.sock"))
        silent.listen()
        sampler = node.sampler()
        samples = await turns(sampler, 2)

    assert ("probe_launch_seconds", "") in told(samples)
    assert sampler.health.reason == "GPU-1: stalled: no answer within 0.5 s"


async def test_a_socket_that_nobody_listens_at(played, node):
    """The unit's worker is gone: systemd starts the next one, not we."""
    played.add("cpu")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(node.folder / "GPU-1.sock"))
    sampler = node.sampler()
    await turns(sampler, 2)

    assert sampler.health.reason == "GPU-1: no worker"
    assert node.started == []


async def test_the_worker_of_the_processor_is_started(node):
    await turns(node.sampler(), 1)

    assert node.started == ["cpu"]


async def test_where_no_systemd_is_workers_are_started(node, monkeypatch):
    """Where CuPy is: of each GPU, or of each slice of one that is cut."""
    sampler = node.sampler()
    monkeypatch.setattr(sampler._workers, "starts", lambda device: True)
    node.gpus = (GPUS[0], replace(GPUS[1], mig=(MigDevice("MIG-1", 1, 0),)))
    await turns(sampler, 3)

    assert set(node.started) == {"cpu", "GPU-1", "MIG-1"}


async def test_real_worker_of_the_processor(tmp_path, node):
    """It is started, asked, and stopped at our end."""
    places = {"proc_root": Path("/proc"), "pci_devices": tmp_path}
    async with ProbeSampler(Workers(tmp_path), node.window, **places, mode="cpu") as sampler:
        now_s, samples = 1_000.0, []
        await sampler.sample(now_s)
        trouble = sampler.health
        while not samples:
            await asyncio.sleep(0.02)
            now_s += 1.0
            samples = (await sampler.sample(now_s)).samples
        pid = sampler._workers._started["cpu"].pid

    assert (trouble.result, trouble.reason) == (Result.UNKNOWN, "cpu: no worker")
    assert {sample.key.signal for sample in samples} == {
        "probe_launch_seconds",
        "probe_cpu_stolen_ratio",
        "probe_cpu_longest_gap_seconds",
        "probe_cpu_copy_bytes_per_second",
        "probe_cpu_product_seconds",
    }
    assert sampler._devices["cpu"].trouble == ""
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_root_port(tmp_path):
    """The port is the first bridge of the path; a switch below it is no port."""
    real = tmp_path / "sys/devices/pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:00.0/0000:1b:00.0"
    real.mkdir(parents=True)
    (tmp_path / "0000:1b:00.0").symlink_to(real)

    assert root_port(tmp_path, "00000000:1B:00.0") == "pci0000:16/0000:16:01.0"
    assert root_port(tmp_path, "00000000:1C:00.0") == ""


def test_mps_servers(tmp_path):
    """Known by the name of their program, which the kernel cuts."""
    for pid, comm in ((5, "nvidia-cuda-mps\n"), (6, "python\n")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(comm)
    processes = [Process(f"p{pid}", pid, 1, ("GPU-1",)) for pid in (5, 6, 7)]

    assert mps_servers(Window.of(now_s=0.0, processes=processes), tmp_path) == {5}
