"""Real torch on the simulated CUDA runtime: programs under the torch environment's interpreter.

Each program of ``programs/`` runs as its own process and prints one JSON object on its last line.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from gpuward.agent.samplers.tap import TapSampler
from gpuward.agent.samplers.tap_samples import DeviceMemory
from gpuward.agent.window import Readings
from gpuward.daemon.clock import SystemClock
from gpuward.simulator.cuda_stubs import library_folders
from gpuward.simulator.cuda_symbols import TorchError
from gpuward.simulator.libraries import NotBuiltError, library_directory
from gpuward.simulator.state import State
from gpuward.v1 import agent_pb2, agent_pb2_grpc

ROOT = Path(__file__).parents[2]
# Another interpreter with another torch, to run these tests against it.
TORCH_PYTHON = Path(
    os.environ.get("GPUWARD_TORCH_PYTHON", ROOT / ".venv" / "torch" / "bin" / "python")
)
IS_ANOTHER_TORCH = "GPUWARD_TORCH_PYTHON" in os.environ
CONF, OLDER_CONF = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
PROGRAMS = Path(__file__).parent / "programs"

MIB = 1 << 20
GIB = 1 << 30

AGENT_CONFIG = """
[node]
name = "n1"
[state]
directory = "{folder}/state"
[http]
address = "127.0.0.1:0"
[grpc]
address = "unix:{folder}/agent.sock"
[tap]
directory = "{folder}/tap"
[kmsg]
path = "/dev/null"
[probes]
mode = "off"
"""


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """The library folders for the real torch; tests skip by name without it or the simulator."""
    if not TORCH_PYTHON.exists():
        pytest.skip(f"no torch for {TORCH_PYTHON}: make .venv/torch.stamp")
    try:
        return library_folders(TORCH_PYTHON, tmp_path_factory.mktemp("stubs"))
    except (NotBuiltError, TorchError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def torch_python(libraries):
    """The interpreter of the torch that these tests run."""
    return TORCH_PYTHON


@dataclass
class Server:
    """A torch process that does what it is told, one operation at a time (``serve.py``)."""

    process: subprocess.Popen

    def ask(self, operation: str, *arguments):
        """Return the answer; an exception there is ``{"error": class, "text": message}``."""
        self.process.stdin.write(json.dumps([operation, *arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"torch ended: {self.process.wait()}\n{self.process.stderr.read()}"
        return json.loads(line)

    def leave(self) -> int:
        """Let the process end by itself; its exit status."""
        self.process.stdin.close()
        return self.process.wait(timeout=200)


@dataclass
class SimulatedNode:
    """A state file and the environment in which programs see its GPUs."""

    state: State
    libraries: list[Path]
    started: list[subprocess.Popen] = field(default_factory=list)

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "GPUWARD_SIM_STATE": str(self.state.path),
            "LD_LIBRARY_PATH": ":".join(str(folder) for folder in self.libraries),
            "PYTHONWARNINGS": "ignore",
            **extra,
            # Its name before torch 2.9; newer ones would complain about it.
            **({OLDER_CONF: extra[CONF]} if CONF in extra and IS_ANOTHER_TORCH else {}),
        }

    def start(
        self,
        program: str,
        *arguments: str,
        python=TORCH_PYTHON,
        within: tuple[str, ...] = (),
        **environment: str,
    ) -> subprocess.Popen:
        """Start a program, by default under torch's interpreter, with pipes.

        ``within``: a command that is to start it.
        """
        child = subprocess.Popen(
            [*within, python, PROGRAMS / program, *arguments],
            env=self.environment(**environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(child)
        return child

    def run(
        self,
        program: str,
        *arguments: str,
        python=TORCH_PYTHON,
        stdin: str = "",
        **environment: str,
    ):
        """Run a program to its end and return the object that it printed."""
        child = self.start(program, *arguments, python=python, **environment)
        printed, complained = child.communicate(stdin, timeout=200)
        assert child.returncode == 0, f"{program}: {child.returncode}\n{printed}\n{complained}"
        return json.loads(printed.splitlines()[-1])

    def serve(self, **environment: str) -> Server:
        """Start torch and wait until it obeys."""
        return Server(self.start("serve.py", **environment))

    def nvml(self, gpu_index: int) -> dict:
        """What the real pynvml reads of a GPU: used bytes, and bytes of each process by pid."""
        return self.run("read_nvml.py", str(gpu_index), python=sys.executable)


@pytest.fixture
def node(libraries, state):
    """The simulated GPUs, for real torch."""
    with _running(SimulatedNode(state, libraries)) as node:
        yield node


@pytest.fixture
def bare_node(state):
    """The simulated GPUs for programs that need no torch, under gpuward's own interpreter."""
    try:
        libraries = [library_directory()]
    except NotBuiltError as error:
        pytest.skip(str(error))
    with _running(SimulatedNode(state, libraries)) as node:
        yield node


@dataclass
class RunningAgent:
    """The agent of the simulated node, beside the programs of a test."""

    address: str

    def snapshot(self):
        """Return what it knows now."""
        with grpc.insecure_channel(self.address) as channel:
            stub = agent_pb2_grpc.AgentServiceStub(channel)
            request = agent_pb2.GetSnapshotRequest()
            return stub.GetSnapshot(request, timeout=200, wait_for_ready=True).snapshot


@pytest.fixture
def agent(node, tmp_path):
    """An agent that reads the tap directory of ``tap``."""
    config = tmp_path / "agent.toml"
    config.write_text(AGENT_CONFIG.format(folder=tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "gpuward.agent", "run", "--config", config],
        env=node.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield RunningAgent(f"unix:{tmp_path}/agent.sock")
    finally:
        process.terminate()
        process.communicate(timeout=200)


class TapWatcher:
    """Samples a tap directory into a window, as the agent does, each time a test looks."""

    def __init__(self, directory: Path) -> None:
        self._readings = Readings()
        self._sampler = TapSampler(
            directory,
            clock=SystemClock(),
            proc_root=Path("/proc"),
            device_memory=lambda _: DeviceMemory(8 * GIB, 64 * MIB),
        )

    def until(self, wanted):
        """Return the first window for which ``wanted`` is true."""
        end_s = time.monotonic() + 200.0
        while time.monotonic() < end_s:
            now_s = time.monotonic()
            self._readings.apply("tap", asyncio.run(self._sampler.sample(now_s)), now_s)
            window = self._readings.window(now_s)
            if wanted(window):
                return window
            time.sleep(0.05)
        raise AssertionError("not seen")


@pytest.fixture
def watcher(tap):
    """The agent's own reader of taps, on the directory of ``tap``."""
    return TapWatcher(Path(tap["GPUWARD_TAP_DIR"]))


@pytest.fixture
def state(tmp_path):
    """Two blank GPUs of 8 GiB, 512 MiB of it the driver's own."""
    state = State.create(tmp_path / "driver", gpu_count=2)
    for index, gpu in enumerate(state.row.gpus[:2]):
        gpu.name = b"NVIDIA H100 80GB HBM3"
        gpu.uuid = b"GPU-0000000%d-aaaa-bbbb-cccc-ddddeeeeffff" % index
        gpu.compute_capability_major = 9
        gpu.multiprocessor_count = 132
        gpu.pci_bus = 0x10 + index
        gpu.memory_total_bytes = 8 * GIB
        gpu.memory_reserved_bytes = 512 * MIB
    state.row.cuda_version = 13000
    state.load_driver("580.105.08")
    yield state
    state.close()


@contextmanager
def _running(node: SimulatedNode):
    try:
        yield node
    finally:
        for child in node.started:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                pipe.close()
