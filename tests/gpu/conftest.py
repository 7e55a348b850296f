"""The card, real or simulated, and a place for what was seen of it.

Programs with torch in them run under ``GPUWARD_TORCH_PYTHON``.  ``GPUWARD_RECORD`` is the folder in
which what was seen is kept, ``GPUWARD_GPU_QUICK`` asks for few rounds and no waiting.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TORCH_PYTHON = os.environ.get("GPUWARD_TORCH_PYTHON", sys.executable)
# All that is recorded together: it shall be committed.
RECORD_LIMIT_BYTES = 5_000_000
GPU_UUID = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Program:
    """A process that answers a line with a line (``serve.py``, ``replay.py``), or prints some."""

    def __init__(self, child: subprocess.Popen) -> None:
        self.child = child
        self.pid = child.pid

    def say(self, value) -> None:
        self.child.stdin.write(json.dumps(value) + "\n")
        self.child.stdin.flush()

    def read(self):
        """Return the object on its next line."""
        line = self.child.stdout.readline()
        assert line, f"{self.child.args[1]} ended with status {self.child.wait()}"
        return json.loads(line)

    def ask(self, operation: str, *arguments):
        self.say([operation, *arguments])
        return self.read()


class Card:
    """Starts programs on the first GPU."""

    def __init__(self) -> None:
        self.is_quick = bool(os.environ.get("GPUWARD_GPU_QUICK"))
        self._started: list[subprocess.Popen] = []

    def start(self, program: str, *arguments, python: str = TORCH_PYTHON, **env: str) -> Program:
        """Start ``program``, a path below tests/, by default under torch's interpreter."""
        return self._start([python, TESTS / program, *map(str, arguments)], env)

    def start_module(self, *arguments: str) -> Program:
        """Start this interpreter with ``arguments``: ``-m``, a module of ours, and its own."""
        return self._start([sys.executable, *arguments], {})

    def _start(self, argv: list[object], env: dict[str, str]) -> Program:
        # One GPU, so that index 0 is the same for CUDA and for NVML, whatever else is there.
        variables = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTHONWARNINGS": "ignore", **env}
        child = subprocess.Popen(
            argv,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(child)
        return Program(child)

    def run(self, program: str, *arguments, python: str = TORCH_PYTHON, **env: str):
        """Run ``program`` to its end and return the object on its last line."""
        child = self.start(program, *arguments, python=python, **env).child
        printed, _ = child.communicate()
        assert child.returncode == 0, f"{program} ended with status {child.returncode}"
        return json.loads(printed.splitlines()[-1])

    def nvml(self) -> dict:
        """Return what NVML says of the first GPU's memory: see ``read_nvml.py``."""
        return self.run("torch/programs/read_nvml.py", 0, python=sys.executable)

    def close(self) -> None:
        for child in self._started:
            with suppress(ProcessLookupError):
                # What it has started as well: helpers of multiprocessing outlive it.
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for pipe in (child.stdin, child.stdout):
                pipe.close()


def _plain(value):
    return asdict(value) if is_dataclass(value) else value.value


@pytest.fixture
def card():
    card = Card()
    yield card
    card.close()


@pytest.fixture(scope="session")
def described():
    """What the card and the software on it call themselves."""
    card = Card()
    try:
        return card.run("gpu/programs/describe.py")
    finally:
        card.close()


@pytest.fixture
def record(described):
    """Keep a value as NAME.json, or as a part of it, and a line on what it is, if that is asked."""

    def keep(name: str, value, meaning: str, part: str = "") -> None:
        if "GPUWARD_RECORD" not in os.environ:
            return
        folder = Path(os.environ["GPUWARD_RECORD"])
        path = folder / f"{name}.json"
        if part:
            value = {**(json.loads(path.read_text()) if path.exists() else {}), part: value}
        text = json.dumps(value, default=_plain, separators=(",", ":"))
        text = GPU_UUID.sub("GPU-00000000-0000-0000-0000-000000000000", text)
        # Lines that a person and a diff can follow.
        path.write_text(text.replace("],[", "],\n[").replace('},"', '},\n"') + "\n")
        _explain(folder / "README.md", path.name, f"{meaning} ({_source(described)})")
        size = sum(each.stat().st_size for each in folder.iterdir())
        assert size < RECORD_LIMIT_BYTES, f"{folder}: {size} bytes are too many to commit"

    return keep


def _source(described):
    kind = "a simulated " if "GPUWARD_SIM_STATE" in os.environ else ""
    return kind + "{name}, driver {driver}, torch {torch}, CUDA {cuda}".format(**described)


def _explain(readme: Path, name: str, meaning: str) -> None:
    lines = readme.read_text().splitlines() if readme.exists() else []
    kept = [line for line in lines if not line.startswith(f"- `{name}`")]
    readme.write_text("\n".join([*kept, f"- `{name}`: {meaning}"]) + "\n")
