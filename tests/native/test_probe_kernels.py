"""The probes' CUDA kernels without a GPU: compilers take them, and their arithmetic is right.

NVRTC, the compiler that CuPy uses, needs no GPU; ``make`` installs both of its living versions into
.venv/nvrtc, ``GPUWARD_NVRTC`` names another folder.  The arithmetic runs on the processor: the same
source, compiled as C++ with the few words of CUDA that it uses (``cuda_on_host.h``).
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "native" / "gpuward" / "native" / "probes"
NVRTC = Path(os.environ.get("GPUWARD_NVRTC", ROOT / ".venv" / "nvrtc"))
NAMES = {"empty": "gpuward_empty", "product": "gpuward_product", "spin_gap": "gpuward_spin_gap"}
# Turing to consumer Blackwell: all that both versions know.
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def test_every_source_is_checked():
    assert {path.stem for path in KERNELS.glob("*.cu")} == set(NAMES)


@pytest.fixture(params=[12, 13], ids=["CUDA 12", "CUDA 13"])
def nvrtc(request):
    found = sorted(
        NVRTC.glob(f"lib/python3*/site-packages/nvidia/*/lib/libnvrtc.so.{request.param}")
    )
    if not found:
        pytest.skip(f"no NVRTC of CUDA {request.param} in {NVRTC}: make .venv/nvrtc.stamp")
    return ctypes.CDLL(found[0])


def compiled(nvrtc, source, *options):
    """Return the machine code of ``source``; fails with the compiler's words, warnings too."""
    program = ctypes.c_void_p()
    text = source.read_bytes()
    made = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), text, source.name.encode(), 0, None, None
    )
    assert made == 0
    flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), flags)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    assert log.value == b""
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, code)
    return code.raw


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", NAMES)
def test_both_compilers_take_it_for_every_card(nvrtc, name, architecture):
    code = compiled(nvrtc, KERNELS / f"{name}.cu", f"--gpu-architecture={architecture}")

    assert code[:4] == b"\x7fELF"
    assert NAMES[name].encode() in code


def test_a_wrong_source_is_refused(nvrtc, tmp_path):
    """So that the test above can fail."""
    wrong = tmp_path / "wrong.cu"
    wrong.write_text((KERNELS / "product.cu").read_text().replace("m16n8k8.row", "m16n8k7.row"))

    with pytest.raises(AssertionError, match="m16n8k7"):
        compiled(nvrtc, wrong, "--gpu-architecture=sm_90")


@pytest.fixture(scope="session")
def on_host(tmp_path_factory):
    """The kernels as functions of the processor."""
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        pytest.skip(f"no C++ compiler: {compiler}")
    library = tmp_path_factory.mktemp("kernels") / "kernels.so"
    source = Path(__file__).with_name("kernels_on_host.cpp")
    argv = [compiler, "-std=c++20", "-O1", "-pthread", "-shared", "-fPIC", f"-I{KERNELS}"]
    argv += [str(source), "-o", str(library)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if re.search("barrier|std=c", done.stderr):
        pytest.skip(f"{compiler} is too old for C++20")
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def product(on_host, a, b):
    made = np.full((len(a), len(a)), np.nan, np.float32)
    on_host.product(pointer(a), pointer(b), pointer(made), len(a))
    return made


def halves(seed, side=64):
    """Eighths, so that sums are exact in any order."""
    return np.random.default_rng(seed).integers(-24, 25, (side, side)).astype(np.float16) / 8


def test_product_is_the_product(on_host):
    """Of a matrix and another's transpose, on one block."""
    a, b = halves(1), halves(2)

    assert np.array_equal(product(on_host, a, b), a.astype(np.float32) @ b.astype(np.float32).T)


def test_product_of_several_blocks(on_host):
    """Each of the four has its own place."""
    a, b = halves(3, side=128), halves(4, side=128)

    assert np.array_equal(product(on_host, a, b), a.astype(np.float32) @ b.astype(np.float32).T)


def test_product_needs_every_element(on_host):
    """One half more in one place is one row more: nothing is read twice or left out."""
    a, b = np.zeros((64, 64), np.float16), np.ones((64, 64), np.float16)
    a[37, 53] = 1

    assert np.array_equal(np.flatnonzero(product(on_host, a, b).sum(axis=1)), [37])


def spin(on_host, looks, chain):
    cycles, times = np.zeros(looks, np.uint64), np.zeros(looks, np.uint64)
    value = np.zeros(1, np.float32)
    on_host.spin_gap(pointer(cycles), pointer(times), pointer(value), looks, chain)
    return cycles.astype(np.int64), times.astype(np.int64), float(value[0])


@pytest.mark.parametrize(
    ("looks", "chain", "expected"),
    [
        pytest.param(1, 0, 1.0, id="no step"),
        pytest.param(1, 1, 1.5, id="one"),
        pytest.param(1, 3, 1.875, id="three"),
        pytest.param(3, 2, 2 - 2**-6, id="three times two"),
    ],
)
def test_spin_does_its_arithmetic(on_host, looks, chain, expected):
    assert spin(on_host, looks, chain)[2] == expected


def test_spin_looks_at_both_clocks_in_order(on_host):
    cycles, times, _ = spin(on_host, 100, 1_000)

    assert np.all(np.diff(times) > 0)
    assert np.all(np.diff(cycles) > 0)


def test_empty(on_host):
    on_host.empty()
