"""Eight simulated H100 for programs that run real torch, under the interpreter that has it.

The tap is there as ``gpuward tap install`` writes it, compiled once as an installer does.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from processes import GPUWARD

from gpuward.simulator import profile
from gpuward.simulator.cuda_stubs import library_folders
from gpuward.simulator.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TORCH_PYTHON = ROOT / ".venv" / "torch" / "bin" / "python"
MACHINE = "h100-sxm-x8"


class TorchNode:
    """The machine; ``folder`` is its own, and gone with it."""

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.state = state
        search = library_folders(TORCH_PYTHON)
        mounted = folder / "mounted"
        subprocess.run(
            [GPUWARD, "tap", "install", "--dir", mounted], check=True, stdout=subprocess.DEVNULL
        )
        subprocess.run([TORCH_PYTHON, "-m", "compileall", "-q", mounted], check=True)
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "GPUWARD_SIM_STATE": str(state.path),
            "LD_LIBRARY_PATH": ":".join(str(folder) for folder in search),
            "PYTHONPATH": str(mounted),
            "PYTHONWARNINGS": "ignore",
            # The tap is started by the programs, when they are ready to measure it.
            "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        }

    def start(self, program: str, *arguments: object, **environment: str) -> subprocess.Popen:
        """Start a program of this folder, with pipes; it is the caller's to end."""
        return subprocess.Popen(
            [TORCH_PYTHON, Path(__file__).with_name(program), *map(str, arguments)],
            env={**self._environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, program: str, *arguments: object, **environment: str) -> dict:
        """Run a program to its end and return the object that it printed last."""
        with self.start(program, *arguments, **environment) as process:
            printed, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{program} ended with status {process.returncode}")
        return json.loads(printed.splitlines()[-1])


@contextmanager
def torch_node() -> Iterator[TorchNode]:
    """Yield the machine; raises ``RuntimeError`` where no CUDA build of torch is installed."""
    if not TORCH_PYTHON.exists():
        raise RuntimeError("no CUDA build of torch to measure: make .venv/torch.stamp")
    machine = profile.load(MACHINE)
    with tempfile.TemporaryDirectory(prefix="gpuward-bench-") as folder:
        state = State.create(Path(folder) / "driver", len(machine.gpus))
        machine.write_to(state)
        try:
            yield TorchNode(Path(folder), state)
        finally:
            # Calls that still wait return to whoever outlives the machine.
            state.row.closed = 1
            state.close()
