"""Stub libraries: named, versioned and filled by what an installed torch asks the loader for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpuward.simulator.cuda_stubs import (
    _check,
    _find_torch,
    stub_folder,
    stub_source,
    torch_environment,
    version_script,
)
from gpuward.simulator.cuda_symbols import (
    MissingLibrary,
    Symbol,
    TorchError,
    missing_libraries,
    read_library,
)

pytestmark = pytest.mark.simulator

USER = """
int cublasCreate_v2(void); int cublasLtMatmul(void); const char *cublasGetStatusString(void);
int ncclSend(void); int pncclSend(void); int cuFileRead(void); int custom_kernel(void);
int _ZN5torch4cudaEv(void) { return 0; }
int cuda_here(void) { return 3; }
int use(void) {
    return cublasCreate_v2() + cublasLtMatmul() + ncclSend() + pncclSend() + cuFileRead()
        + cuda_here() + !cublasGetStatusString();
}
"""


@pytest.fixture
def torch(tmp_path):
    """A folder that looks like torch: a library that binds to CUDA libraries not here."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path / "torch"
    (folder / "lib").mkdir(parents=True)
    (folder / "version.py").write_text("__version__ = '9.9.9+cu130'\n")
    links = [
        _compile(tmp_path, soname, text, versioned=versioned)
        for soname, versioned, text in (
            ("libcublas.so.13", True, "int cublasCreate_v2; char *cublasGetStatusString;"),
            ("libcublasLt.so.13", True, "int cublasLtMatmul;"),
            ("libnccl.so.2", False, "int ncclSend, pncclSend;"),
            ("libcufile.so.0", False, "int cuFileRead;"),
            ("libcudart.so.13", True, "int cudaMalloc;"),
        )
    ]
    user = tmp_path / "user.c"
    user.write_text(USER)
    output = folder / "lib" / "libc10_cuda.so"
    flags = ["-w", "-shared", "-fPIC", "-Wl,--no-as-needed", "-Wl,--unresolved-symbols=ignore-all"]
    subprocess.run(["cc", *flags, "-o", output, user, *links], check=True)
    return folder


def _compile(folder, soname, text, *, versioned):
    """A library to link against: what the loader will miss later."""
    source, script, output = folder / f"{soname}.c", folder / f"{soname}.map", folder / soname
    source.write_text(text)
    script.write_text(f"{soname} {{ *; }};\n")
    flags = ["-w", "-shared", f"-Wl,-soname,{soname}"]
    flags += [f"-Wl,--version-script={script}"] if versioned else []
    subprocess.run(["cc", *flags, "-o", output, source], check=True)
    return output


def test_missing_libraries(torch):
    """Each symbol goes to the library its version names, else to the longest prefix's."""
    found = missing_libraries(torch / "lib", ["libcudart.so.13"])

    assert {library.soname: sorted(library.symbols) for library in found} == {
        "libcublas.so.13": [
            Symbol("cublasCreate_v2", "libcublas.so.13", "libcublas.so.13"),
            Symbol("cublasGetStatusString", "libcublas.so.13", "libcublas.so.13"),
        ],
        "libcublasLt.so.13": [Symbol("cublasLtMatmul", "libcublasLt.so.13", "libcublasLt.so.13")],
        "libcufile.so.0": [Symbol("cuFileRead")],
        "libnccl.so.2": [Symbol("ncclSend"), Symbol("pncclSend")],
    }


def test_only_cuda_names_are_read(torch):
    """A stub with a C++ name would shadow the C++ runtime's."""
    library = read_library(torch / "lib" / "libc10_cuda.so")

    assert library.defined == {"cuda_here"}
    assert {"custom_kernel"} & {symbol.name for symbol in library.wanted} == set()
    assert not any(symbol.name.startswith("_Z") for symbol in library.wanted)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(60)])
def test_not_a_library(tmp_path, content):
    """An empty file, a script, a 32-bit library: one error that names the file."""
    path = tmp_path / "libx.so"
    path.write_bytes(content)

    with pytest.raises(TorchError, match=r"libx\.so: "):
        read_library(path)


def test_stub_text():
    """A status for every function, a text where torch prints what it gets."""
    library = MissingLibrary("libnccl.so.2")
    library.symbols |= {Symbol("ncclSend"), Symbol("ncclGetErrorString")}

    text = stub_source(library)

    assert "int ncclSend(void) { return 1; }" in text
    assert 'const char *ncclGetErrorString(void) { return "' in text
    assert version_script(library) == ""


def test_versions():
    """One node for each version asked for."""
    library = MissingLibrary("libx.so.1")
    library.symbols |= {Symbol("cuB", "libx.so.1", "V2"), Symbol("cuA", "libx.so.1", "V1")}

    assert version_script(library) == "V1 { cuA; };\nV2 { cuB; };\n"


def test_stubs_let_the_library_load(torch, tmp_path):
    """With the stubs every symbol binds at load time, and each stub reports failure."""
    folder = stub_folder(torch, tmp_path / "cache")
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    shutil.copy(tmp_path / "libcudart.so.13", runtime)
    program = f"import ctypes; print(ctypes.CDLL('{torch}/lib/libc10_cuda.so').use())"

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"LD_BIND_NOW": "1", "LD_LIBRARY_PATH": f"{folder}:{runtime}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "8\n"  # five failures, 3 from cuda_here, a text that is there


def test_two_at_once(torch, tmp_path):
    """Both get the same complete folder, and nothing else is left in the cache."""
    cache = tmp_path / "cache"

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: stub_folder(torch, cache), range(4)))

    assert len(set(folders)) == 1
    assert [*cache.iterdir()] == [folders[0]]
    assert len([*folders[0].iterdir()]) == 4


def test_another_torch_gets_other_stubs(torch, tmp_path):
    """The cache tells installed versions apart."""
    before = stub_folder(torch, tmp_path / "cache")
    (torch / "version.py").write_text("__version__ = '9.9.10+cu130'\n")

    assert stub_folder(torch, tmp_path / "cache") != before


def test_no_compiler(torch, tmp_path, monkeypatch):
    """One line says what is missing; no half-made folder stays."""
    monkeypatch.setenv("CC", "no-such-compiler")

    with pytest.raises(TorchError, match="no C compiler"):
        stub_folder(torch, tmp_path / "cache")
    assert [*(tmp_path / "cache").iterdir()] == []


def test_unusable_torch(torch, tmp_path):
    """CUDA wheels beside torch would win over the simulator; other torches have no allocator."""
    _check(torch)
    wheels = tmp_path / "nvidia" / "cu13" / "lib"
    wheels.mkdir(parents=True)
    (wheels / "libcudart.so.13").touch()

    with pytest.raises(TorchError, match="would be loaded before"):
        _check(torch)
    shutil.copy(tmp_path / "libnccl.so.2", torch / "lib" / "libc10_cuda.so")
    with pytest.raises(TorchError, match="another CUDA runtime"):
        _check(torch)
    (torch / "lib" / "libc10_cuda.so").unlink()
    with pytest.raises(TorchError, match="no CUDA build of torch"):
        _check(torch)


def test_interpreter_without_torch(tmp_path):
    """The message names the interpreter."""
    with pytest.raises(TorchError, match="torch is not installed"):
        torch_environment(tmp_path.joinpath(sys.executable), {}, tmp_path)
    with pytest.raises(TorchError, match="No such file"):
        torch_environment(tmp_path / "python", {}, tmp_path)


@pytest.mark.torch
def test_every_symbol_of_torch_binds(libraries, torch_python):
    """Nothing that the real torch asks for is missing: the loader resolves all of it at once."""
    program = f"import ctypes; ctypes.CDLL('{_find_torch(torch_python)}/lib/libtorch_python.so')"
    search = ":".join(str(folder) for folder in libraries)

    subprocess.run(
        [torch_python, "-c", program],
        env={**os.environ, "LD_BIND_NOW": "1", "LD_LIBRARY_PATH": search},
        check=True,
    )
