"""Give a CUDA build of torch every library it needs to load and run its allocator without a GPU.

The CUDA runtime and the driver are simulated (``src/cuda*``) and come built with this distribution.
The others (cuBLAS, cuDNN, NCCL ...) are stubs: each function fails as an uninitialised library
does, so torch loads and its memory works, and a matrix product raises.  They are compiled on first
use from what the installed torch asks for and kept in a cache folder, one for each torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess  # noqa: TID251 - its constants; gpuward.daemon.subprocesses starts the programs
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from gpuward.daemon import subprocesses
from gpuward.simulator.cuda_symbols import (
    MissingLibrary,
    TorchError,
    missing_libraries,
    read_library,
)
from gpuward.simulator.libraries import library_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Each with the folder, beside torch, of NVIDIA's own.
RUNTIMES = {"libcudart.so.13": "cu13", "libcudart.so.12": "cuda_runtime"}
SIMULATED = (*RUNTIMES, "libcuda.so.1")
# Part of the cache folder's name: raise it when the text of the stubs changes.
_STUB_REVISION = "1"
_PROGRAM_TIMEOUT_S = 60
_FIND_TORCH = (
    "import importlib.util; spec = importlib.util.find_spec('torch');"
    "print(spec.submodule_search_locations[0] if spec else '')"
)
# These return a message, which torch prints; every other function returns a status.
_RETURNS_TEXT = re.compile(r"Get(Error|Status)String$|GetLastError$")


def library_folders(python_or_torch: Path, cache: Path | None = None) -> list[Path]:
    """Return the folders for ``LD_LIBRARY_PATH``, in order, that let this torch run.

    ``python_or_torch``: an interpreter that can import torch, or torch's own folder.
    ``cache``: where generated libraries are kept, by default ``$XDG_CACHE_HOME/gpuward``.
    Raises ``TorchError``, and ``NotBuiltError`` without the simulator's own libraries.
    """
    torch = python_or_torch if python_or_torch.is_dir() else _find_torch(python_or_torch)
    _check(torch)
    return [library_directory(), stub_folder(torch, cache or _default_cache())]


def torch_environment(
    python_or_torch: Path, base: Mapping[str, str], cache: Path | None = None
) -> dict[str, str]:
    """Return ``base`` changed so that this torch loads; see ``library_folders``."""
    folders = [str(folder) for folder in library_folders(python_or_torch, cache)]
    search = ":".join(filter(None, [*folders, base.get("LD_LIBRARY_PATH", "")]))
    return {**base, "LD_LIBRARY_PATH": search}


def stub_folder(torch: Path, cache: Path) -> Path:
    """Return the folder of stub libraries for the torch at ``torch``, compiling it on first use.

    Two processes may do so at once: each compiles into a folder of its own, the first rename wins.
    Raises ``TorchError``.
    """
    folder = cache / f"cuda-stubs-{_fingerprint(torch)}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".cuda-stubs-") as scratch:
        built = Path(scratch) / "lib"
        built.mkdir()
        for library in missing_libraries(torch / "lib", SIMULATED):
            _compile(library, Path(scratch), built)
        try:
            built.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def stub_source(library: MissingLibrary) -> str:
    """Return C text that defines each function of ``library``: all fail, none touches a pointer."""
    names = sorted({symbol.name for symbol in library.symbols})
    lines = [
        f'const char *{name}(void) {{ return "not available in the simulator"; }}'
        if _RETURNS_TEXT.search(name)
        # 1 is a failure in every one of these libraries, "not initialized" in most.
        else f"int {name}(void) {{ return 1; }}"
        for name in names
    ]
    return "\n".join(
        [f"/* {library.soname}: stubs */", *lines, "typedef int translation_unit;", ""]
    )


def version_script(library: MissingLibrary) -> str:
    """Return the linker's version script of ``library``: one node for each version asked for."""
    names: dict[str, list[str]] = defaultdict(list)
    for symbol in sorted(library.symbols):
        if symbol.version:
            names[symbol.version].append(symbol.name)
    return "".join(f"{version} {{ {'; '.join(each)}; }};\n" for version, each in names.items())


def _compile(library: MissingLibrary, scratch: Path, built: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise TorchError("no C compiler (cc, or the one that CC names) to build torch's stubs with")
    source = scratch / f"{library.soname}.c"
    source.write_text(stub_source(library))
    argv = [
        compiler,
        "-w",
        "-O1",
        "-shared",
        "-fPIC",
        "-o",
        str(built / library.soname),
        str(source),
    ]
    argv.append(f"-Wl,-soname,{library.soname}")
    if script := version_script(library):
        versions = scratch / f"{library.soname}.map"
        versions.write_text(script)
        argv.append(f"-Wl,--version-script={versions}")
    _output(argv)


def _check(torch: Path) -> None:
    allocator = torch / "lib" / "libc10_cuda.so"
    if not allocator.exists():
        raise TorchError(f"{torch}: no CUDA build of torch here; install one with pip --no-deps")
    runtime = next((each for each in RUNTIMES if each in read_library(allocator).needed), None)
    if runtime is None:
        raise TorchError(f"{torch}: built for another CUDA runtime than {' or '.join(RUNTIMES)}")
    wheels = torch.parent / "nvidia" / RUNTIMES[runtime] / "lib" / runtime
    if wheels.exists():
        raise TorchError(
            f"{wheels} would be loaded before the simulator's: install torch --no-deps"
        )


def _find_torch(python: Path) -> Path:
    location = _output([str(python), "-c", _FIND_TORCH]).strip()
    if not location:
        raise TorchError(f"{python}: torch is not installed for this interpreter")
    return Path(location)


def _fingerprint(torch: Path) -> str:
    """Return a name for this torch's needs: its version text and the sizes of its libraries."""
    digest = hashlib.sha256(_STUB_REVISION.encode())
    digest.update((torch / "version.py").read_bytes())
    for path in sorted((torch / "lib").glob("*.so*")):
        digest.update(f"{path.name}:{path.stat().st_size};".encode())
    return digest.hexdigest()[:16]


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuward"


def _output(argv: Iterable[str]) -> str:
    """Return what a program prints; raises ``TorchError`` when it cannot run or fails."""
    argv = list(argv)
    with tempfile.TemporaryFile() as complaints:
        try:
            child = subprocesses.start(argv, stdout=subprocess.PIPE, stderr=complaints)
            printed, _ = child.communicate(timeout=_PROGRAM_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TorchError(f"{argv[0]}: {error}") from error
        if child.returncode:
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip()
            raise TorchError(f"{argv[0]}: exit status {child.returncode}: {said}")
    return str(printed, "utf-8", "replace")
