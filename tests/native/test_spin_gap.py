"""The native spin and its Python twin: what must hold on any machine, however busy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuward.native import library
from gpuward.native.spin_gap import SpinGaps, spin_gaps, spin_gaps_in_python

SOURCES = Path(__file__).parents[2] / "native"
MS = 1_000_000
CALLS = """
import sys
from ctypes import CDLL, c_uint64, c_void_p
spin = CDLL(sys.argv[1]).gpuward_spin_gap
spin.argtypes = [c_uint64, c_uint64, c_void_p]
room = (c_uint64 * 5)()
print(spin(1_000_000, 1_000, room), spin(1, 0, room), spin(1, 1, None), spin(10**11, 1, room))
"""


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Build the library as CMake does; ``flags`` add to the compiler's."""
    folder = tmp_path_factory.mktemp("native")

    def run(*flags):
        made = folder / "-".join(["build", *(flag.strip("-") for flag in flags)])
        options = [f"-DCMAKE_CXX_FLAGS={' '.join(flags)}", "-DCMAKE_BUILD_TYPE=Release"]
        for command in (
            ["cmake", "-G", "Ninja", "-S", str(SOURCES), "-B", str(made), *options],
            ["cmake", "--build", str(made)],
        ):
            argv = [str(Path(sys.executable).parent / command[0]), *command[1:]]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"the native library cannot be built here: {done.stdout[-300:]}")
        return made / "libgpuward.so"

    return run


@pytest.fixture(scope="session")
def native_spin(build):
    """Spin in the library that was just built, whether or not one is installed."""
    path = build()

    def spin(duration_ns, threshold_ns):
        before = library.find
        library.load.cache_clear()
        library.find = lambda name=library.NAME: path
        try:
            return spin_gaps(duration_ns, threshold_ns)
        finally:
            library.find = before
            library.load.cache_clear()

    return spin


def holds(seen, duration_ns, threshold_ns):
    """The promises of the header file."""
    assert seen.elapsed_ns >= duration_ns
    assert seen.reads >= 1
    assert 0 <= seen.gaps <= seen.reads
    assert seen.gaps * threshold_ns <= seen.gap_total_ns <= seen.elapsed_ns
    assert (seen.longest_gap_ns >= threshold_ns) == (seen.gaps > 0)
    assert seen.longest_gap_ns <= seen.elapsed_ns


DURATIONS = st.integers(0, 2 * MS)
THRESHOLDS = st.integers(1, 10 * MS)


@settings(deadline=None)
@given(DURATIONS, THRESHOLDS)
def test_python_twin(duration_ns, threshold_ns):
    """The reference keeps the promises."""
    holds(spin_gaps_in_python(duration_ns, threshold_ns), duration_ns, threshold_ns)


@settings(deadline=None)
@given(DURATIONS, THRESHOLDS)
def test_native(native_spin, duration_ns, threshold_ns):
    """The library keeps the same promises."""
    holds(native_spin(duration_ns, threshold_ns), duration_ns, threshold_ns)


@pytest.mark.parametrize(
    ("duration_ns", "threshold_ns"),
    [
        pytest.param(1, 0, id="threshold of nothing"),
        pytest.param(-1, 1, id="negative"),
        pytest.param(10_000 * MS + 1, 1, id="above 10 s"),
    ],
)
def test_refused(native_spin, duration_ns, threshold_ns):
    """A spin without an end, or in which everything is a gap, is refused."""
    with pytest.raises(ValueError, match="cannot spin"):
        native_spin(duration_ns, threshold_ns)


def test_absent_library(monkeypatch):
    """Without the library the twin does the work."""
    monkeypatch.setattr(library, "find", lambda name=library.NAME: None)
    library.load.cache_clear()

    assert isinstance(spin_gaps(0, 1), SpinGaps)
    library.load.cache_clear()


def test_file_that_is_no_library(monkeypatch, tmp_path):
    """A file that cannot be loaded is as good as none."""
    path = tmp_path / "libgpuward.so"
    path.write_text("not ELF")
    monkeypatch.setattr(library, "find", lambda name=library.NAME: path)
    library.load.cache_clear()

    assert library.load() is None
    library.load.cache_clear()


def test_library_is_found_where_an_editable_install_puts_it(monkeypatch, tmp_path):
    """The package's folder first, then site-packages, else nothing."""
    monkeypatch.setattr(library.sysconfig, "get_path", lambda name: str(tmp_path))
    name = "libother.so"
    absent = library.find(name)
    path = tmp_path / "gpuward" / "native" / name
    path.parent.mkdir(parents=True)
    path.touch()

    assert absent is None
    assert library.find(name) == path


def test_sanitizers(build):
    """The library runs clean under the address and undefined-behaviour sanitizers."""
    path = build("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    preload = subprocess.run(
        ["c++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(path)],
        env={"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.returncode) == ("0 22 22 22\n", 0), done.stderr
