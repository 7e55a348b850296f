"""`make gpu`: run the tests that need a real NVIDIA GPU, from source; say plainly where it cannot.

Standard library only.  ``GPUWARD_TORCH_PYTHON`` names an interpreter with torch when this one has
none.  What is left of the command line goes to pytest.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (
    "agent",
    "agent/tap",
    "coordinator",
    "daemon",
    "native",
    "native/simulator",
    "protos",
)
TESTS = ("tests/gpu", "tests/agent/test_probes.py")
# By module, what pip calls it.
MODULES = {
    "anyio": "anyio",
    "hypothesis": "hypothesis",
    "msgspec": "msgspec",
    "pynvml": "nvidia-ml-py",
    "pytest": "pytest",
    "pytest_timeout": "pytest-timeout",
    "structlog": "structlog",
}
OLDEST = (3, 11)
ASK_TORCH = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 3)"
NO_GPU = 3
WHAT_IT_DOES = """\
It would run tests/gpu on the first NVIDIA GPU of this machine, in about ten minutes and 64 GiB of
its memory (with 20 GiB in four times that), from source: nothing is installed, and no setting of
the GPU is changed.
  driver      what NVML answers to every question, and what of it this GPU does not support
  tap         a real torch in pieces, seen from outside; workers that are forked and spawned
  allocator   torch's own against the replica, block for block; what empty_cache() gives back
  costs       statistics, walks, summaries at 1,000, 10,000 and 100,000 blocks; who waits for whom
  probes      what a probe worker holds and takes of the card, and what a neighbour feels of it
  trace       memory that slowly goes to pieces until a request fails, sampled once a second
RECORD=FOLDER keeps what was seen, as fixtures, below 5 MB."""


def missing(torch_python: str) -> list[str]:
    """Return what this machine lacks, a sentence each."""
    found = []
    if sys.version_info < OLDEST:
        found.append(f"Python {OLDEST[0]}.{OLDEST[1]} or newer: {sys.executable} is older")
    if lacks := [pip for name, pip in MODULES.items() if importlib.util.find_spec(name) is None]:
        found.append(f"modules: {sys.executable} -m pip install {' '.join(lacks)}")
    if importlib.util.find_spec("cupy") is None:
        found.append(
            "CuPy: cupy-cuda13x and nvidia-cuda-nvrtc, or cupy-cuda12x and"
            " nvidia-cuda-nvrtc-cu12, whichever the driver's CUDA is"
        )
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        found.append("an NVIDIA driver: there is no libnvidia-ml.so.1")
    try:
        asked = subprocess.run([torch_python, "-c", ASK_TORCH], capture_output=True, check=False)
    except OSError as error:
        found.append(f"torch: GPUWARD_TORCH_PYTHON is {torch_python}: {error.strerror}")
    else:
        if asked.returncode == NO_GPU:
            found.append(f"a GPU that torch can use: {torch_python} has torch and sees none")
        elif asked.returncode:
            found.append(f"torch: {torch_python} cannot import it (GPUWARD_TORCH_PYTHON=PYTHON)")
    return found


def nvrtc_folders() -> list[str]:
    """Return where NVRTC's wheel is: CuPy looks in site-packages, and not along PYTHONPATH."""
    found = (
        Path(folder, "nvidia", name, "lib")
        for folder in sys.path
        for name in ("cu13", "cuda_nvrtc")
    )
    return [str(path) for path in found if list(path.glob("libnvrtc.so.*"))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make gpu", description="Run the tests of tests/gpu.")
    parser.add_argument("--record", metavar="FOLDER", help="keep what was seen, as JSON, in FOLDER")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds and no waiting: figures not to be quoted"
    )
    options, rest = parser.parse_known_args()
    torch_python = os.environ.get("GPUWARD_TORCH_PYTHON") or sys.executable
    if lacks := missing(torch_python):
        lines = "".join(f"\n  {number}. {lack}" for number, lack in enumerate(lacks, 1))
        print(f"make gpu cannot run here. It lacks:{lines}\n\n{WHAT_IT_DOES}", file=sys.stderr)
        return 1
    search = [*(str(ROOT / source) for source in SOURCES), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "GPUWARD_TORCH_PYTHON": torch_python,
    }
    libraries = [*nvrtc_folders(), os.environ.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    if options.quick:
        environment["GPUWARD_GPU_QUICK"] = "1"
    if options.record:
        folder = Path(options.record).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        environment["GPUWARD_RECORD"] = str(folder)
    # Warnings there are of the machine's libraries, not ours to mend.
    options_of_pytest = ["-m", "gpu", "-W", "default", "-p", "no:cacheprovider"]
    argv = [sys.executable, "-m", "pytest", *options_of_pytest, *TESTS, *rest]
    return subprocess.run(argv, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
