"""Find the interpreter that has torch, and make the workload run under it."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

from gpuward.simulator.cuda_stubs import library_folders

# What the workload imports that torch's environment does not have.
PACKAGES = ("gpuward.daemon", "gpuward.simulator", "gpuward.tap")


class NoTorch(Exception):  # noqa: N818 - a condition, told to the user
    """There is no torch to run; the message says how to get it."""


def torch_interpreter() -> Path:
    """Return our own interpreter when it has torch, else that of ``torch/`` in our environment.

    Raises ``NoTorch``.
    """
    if importlib.util.find_spec("torch") is not None:
        return Path(sys.executable)
    beside = Path(sys.prefix) / "torch" / "bin" / "python"
    if beside.exists():
        return beside
    raise NoTorch(f"--torch needs torch in this environment or in {beside.parents[1]}: make test")


def torch_environment(interpreter: Path) -> dict[str, str]:
    """Return what ``interpreter`` needs to run the workload on the simulated CUDA runtime.

    Stub libraries for torch are compiled on first use; ``TorchError`` where they cannot be.
    """
    roots = [root for package in PACKAGES for root in _roots_of(package)]
    roots += map(sysconfig.get_path, ("purelib", "platlib"))
    folders = [str(folder) for folder in library_folders(interpreter)]
    folders += filter(None, [os.environ.get("LD_LIBRARY_PATH")])
    return {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(roots)),
        "LD_LIBRARY_PATH": os.pathsep.join(folders),
    }


def _roots_of(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise AssertionError(f"{package} runs this and is not there")
    # A namespace package may lie in several places.
    return [str(Path(place).parents[1]) for place in spec.submodule_search_locations]
