"""A torch that is not one: the few functions the tap touches, driven through real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

TAP = Path(__file__).parents[2] / "agent" / "tap"

# Another interpreter for the processes that have the tap.
PYTHON = os.environ.get("GPUWARD_TAP_PYTHON", sys.executable)

FAKE_TORCH = {
    "torch/__init__.py": """
        from torch import _C, cuda
        __version__ = "2.14.1+fake"
        uint8 = "uint8"
        class OutOfMemoryError(RuntimeError):
            pass
        def empty(size, dtype, device):
            if size > 80 << 30:
                for observer in _C.observers:
                    observer(0, size, 80 << 30, 5 << 20)
                raise OutOfMemoryError("CUDA out of memory")
            return bytes(8)
        def _import_device_backends():
            from importlib.metadata import entry_points
            try:
                found = entry_points(group="torch.backends")
            except TypeError:  # CPython 3.9
                found = entry_points().get("torch.backends", ())
            for entry_point in found:
                try:
                    entry_point.load()()
                except Exception as error:
                    raise RuntimeError("Failed to load the backend extension") from error
        import os
        if os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") != "0":
            _import_device_backends()
    """,
    "torch/_C.py": """
        observers = []
        def _cuda_attach_out_of_memory_observer(observer):
            observers.append(observer)
    """,
    "torch/cuda/__init__.py": """
        import threading
        from torch.cuda import memory
        from torch.cuda.memory import memory_snapshot
        GPUS = ("0b9c5b45-9f5d-4f0c-8d0f-3c5fc1a3a001", "0b9c5b45-9f5d-4f0c-8d0f-3c5fc1a3a002")
        asked_by = []
        reserved = {0: 1 << 30}
        _initialized, _queued_calls = False, []
        class Properties:
            def __init__(self, uuid):
                self.uuid = uuid
        def device_count():
            return len(GPUS)
        def get_device_properties(device):
            return Properties(GPUS[device])
        def _lazy_call(function, **_):
            function() if _initialized else _queued_calls.append(function)
        def is_initialized():
            return _initialized
        def init():
            global _initialized
            for function in _queued_calls:
                function()
            _initialized = True
        def memory_stats_as_nested_dict(device):
            asked_by.append(threading.current_thread().name)
            size = reserved.get(device, 0)
            figures = {"current": size, "peak": size, "allocated": size, "freed": 0}
            return {"reserved_bytes": {p: figures for p in ("all", "large_pool", "small_pool")}}
    """,
    "torch/cuda/memory.py": """
        def memory_snapshot(mempool_id=None, include_traces=True):
            assert not include_traces
            block = {"size": 2**30, "requested_size": 2**30, "state": "active_allocated"}
            return [{"device": 0, "address": 4096, "total_size": 2**30, "stream": 0,
                     "segment_type": "large", "segment_pool_id": (0, 0), "blocks": [block]}]
        def get_allocator_backend():
            return "native"
    """,
}


class Host:
    """Runs scripts in processes that have the fake torch and the tap on their path."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "tap"
        self.directory.mkdir()
        self._path = folder / "path"
        self.add(FAKE_TORCH)
        project = tomllib.loads((TAP / "pyproject.toml").read_text())["project"]
        info = self._path / f"gpuward_tap-{project['version']}.dist-info"
        _write(info / "METADATA", f"Name: gpuward-tap\nVersion: {project['version']}\n")
        _write(info / "entry_points.txt", _ini(project["entry-points"]))

    def add(self, files: dict[str, str]) -> None:
        """Put more modules on the path of the processes, by file name."""
        for name, text in files.items():
            _write(self._path / name, textwrap.dedent(text))

    def start(self, script: str, *, python: str = PYTHON, **env: str) -> subprocess.Popen:
        """Start ``script``; its standard input stays open until the test closes it."""
        variables = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.Popen(
            # -S: no site-packages, so that nothing but the standard library is there.
            [python, "-S", "-c", textwrap.dedent(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **variables,
                "PYTHONPATH": f"{self._path}:{TAP}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "GPUWARD_TAP_DIR": str(self.directory),
                **env,
            },
        )

    def run(self, script: str, **env: str) -> tuple[int, str, str]:
        """Run ``script`` to its end; return exit status, output, errors."""
        with self.start(script, **env) as process:
            out, err = process.communicate(timeout=200)
        return process.returncode, out, err

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir())


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def _interpreters():
    """Return one interpreter of each CPython from 3.9 on that is installed here."""
    found = {f"3.{sys.version_info.minor}": sys.executable}
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    # The folder may belong to somebody else.
    for minor in range(9, 16) if os.access(folder, os.R_OK | os.X_OK) else ():
        for python in sorted(folder.glob(f"3.{minor}.*/bin/python3")):
            found.setdefault(f"3.{minor}", str(python))
    return [pytest.param(python, id=version) for version, python in sorted(found.items())]


@pytest.fixture(params=_interpreters())
def python(request):
    """Each CPython at hand that the tap is made for."""
    return request.param


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _ini(groups: dict[str, dict[str, str]]) -> str:
    return "\n".join(
        f"[{group}]\n" + "\n".join(f"{name} = {target}" for name, target in entries.items())
        for group, entries in groups.items()
    )
