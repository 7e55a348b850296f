"""What is shipped: the wheels of gpuward and of its tap, and the source they are built from.

A stray library in a wheel is worse than a missing one: a simulated ``libnvidia-ml.so.1`` on a real
node would show a machine that does not exist.  All is built from the sdist, as an installer would.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("scikit_build_core", reason="the build backend is not installed")

ROOT = Path(__file__).parent.parent
NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}
SDIST = "from scikit_build_core.build import build_sdist; build_sdist('{}')"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
# Sources of this tree that no user may get; names of libraries that only NVIDIA may ship.
NEVER = ("simulator", "tests", "test_", "conftest", "libnvidia-ml", "libcudart", "libcuda.")
PACKAGES = {"agent", "cli", "coordinator", "daemon", "memory_map", "native", "v1"}
# Imports all that can be imported without CUDA; -S, so that nothing of this environment's own
# installation of gpuward, which is editable, takes part.
IMPORT_ALL = """
import importlib, pkgutil, sys, gpuward
here = [place for place in gpuward.__path__ if place.startswith(sys.argv[1])]
names = [m.name for m in pkgutil.walk_packages(here, "gpuward.") if "__main__" not in m.name]
for name in names:
    if "migrations" not in name and not name.endswith("latency_cuda"):
        assert importlib.import_module(name).__spec__.origin.startswith(sys.argv[1]), name
print(len(names))
"""


def run(*argv, **options):
    """Run to the end; returns all that was said, and fails with it."""
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(argv, check=False, **said, **options)
    assert 0 == done.returncode, done.stdout
    return done.stdout


def wheel_of(source, folder, **env):
    """Build the wheel of a source tree."""
    build = ("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder)
    run(*PIP, *build, source, env={**os.environ, **env})
    (wheel,) = folder.glob("*.whl")
    return wheel


def names_in(wheel):
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-c", SDIST.format(folder), cwd=ROOT)
    (archive,) = folder.glob("gpuward-*.tar.gz")
    # Not tarfile: its filters came with 3.11.4, and Debian 12 has 3.11.2.
    run("tar", "-xzf", archive, "-C", folder)
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def pure_wheel(sdist, tmp_path_factory):
    """The wheel as a machine without a compiler builds it."""
    source = shutil.copytree(sdist, tmp_path_factory.mktemp("source") / "gpuward")
    return wheel_of(source, tmp_path_factory.mktemp("pure"), **NO_COMPILER)


@pytest.fixture(scope="module")
def tap_wheel(tmp_path_factory):
    return wheel_of(ROOT / "agent" / "tap", tmp_path_factory.mktemp("tap"))


@pytest.fixture(scope="module")
def installed(pure_wheel, tap_wheel, tmp_path_factory):
    """Run a program on both installed wheels and on the packages that they depend on."""
    target = tmp_path_factory.mktemp("target")
    run(*PIP, "install", "--no-deps", "--no-index", "--target", target, pure_wheel, tap_wheel)
    env = {"PYTHONPATH": f"{target}:{sysconfig.get_path('purelib')}"}

    def execute(*argv):
        return run(sys.executable, "-S", *argv, env=env, cwd=target)

    execute.target = target
    return execute


def test_the_sdist_holds_what_a_build_needs_and_no_simulator(sdist):
    """Everything else in this module is built from it."""
    names = [str(path.relative_to(sdist)) for path in sdist.rglob("*")]

    assert {"LICENSE", "README.md", "native/CMakeLists.txt"} <= set(names)
    assert [] == [name for name in names if any(word in name for word in NEVER)]


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_the_wheel_has_one_library_and_serves_every_python(sdist, tmp_path):
    """C ABI and ctypes: one wheel a platform, with no file that it should not have."""
    source = shutil.copytree(sdist, tmp_path / "source")
    wheel = wheel_of(source, tmp_path / "wheel")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")

    names = names_in(wheel)
    assert wheel.name == f"gpuward-0.1.0-py3-none-{platform}.whl"
    assert ["gpuward/native/libgpuward.so"] == [name for name in names if ".so" in name]
    assert_clean(names)


def test_without_a_compiler_it_is_a_wheel_for_every_machine(pure_wheel):
    """No error and no library: the tag says that it fits anywhere, and it does."""
    names = names_in(pure_wheel)

    assert pure_wheel.name == "gpuward-0.1.0-py3-none-any.whl"
    assert [] == [name for name in names if ".so" in name]
    assert_clean(names)


def assert_clean(names):
    parts = {name.split("/")[1] for name in names if name.startswith("gpuward/")}
    assert parts == PACKAGES
    assert "gpuward/__init__.py" not in names, "it would hide the tap and the simulator"
    assert [] == [name for name in names if name.endswith(".proto")]
    assert [] == [name for name in names if any(word in name for word in NEVER)]
    assert {"gpuward/native/probes/empty.cu", "gpuward/coordinator/web/templates/base.html"} <= set(
        names
    )


def test_both_wheels_import_side_by_side(installed):
    """Every module of the shared namespace, from the installed files alone."""
    assert int(installed("-c", IMPORT_ALL, str(installed.target))) > 100


def test_the_command_runs(installed, tmp_path):
    """The command answers, and an empty configuration is a good one."""
    command = str(installed.target / "bin" / "gpuward")
    config = tmp_path / "agent.toml"
    config.touch()

    assert "Usage: gpuward " in installed(command, "--help")
    assert f"{config}: ok\n" == installed(command, "agent", "check-config", "--config", str(config))


def test_a_probe_without_its_library_has_a_python_twin(installed):
    """What the library would do is done without it."""
    look = "from gpuward.native import spin_gap; print(spin_gap.spin_gaps(0, 1).reads)"

    assert int(installed("-c", look)) >= 1


def test_the_tap_wheel_is_the_tap_alone(tap_wheel):
    """It goes into other people's images: no library, no dependency, three entry points."""
    names = names_in(tap_wheel)
    entry_points = configparser.ConfigParser()
    with zipfile.ZipFile(tap_wheel) as wheel:
        said = wheel.read("gpuward_tap-0.1.0.dist-info/entry_points.txt").decode()
        metadata = wheel.read("gpuward_tap-0.1.0.dist-info/METADATA").decode()
    entry_points.read_string(said)

    assert tap_wheel.name == "gpuward_tap-0.1.0-py3-none-any.whl"
    assert [] == [n for n in names if not n.startswith(("gpuward/tap/", "gpuward_tap-0.1.0."))]
    points = ["torch.backends", "vllm.general_plugins", "sglang.srt.plugins"]
    assert points == entry_points.sections()
    assert "Requires-Dist" not in metadata


def test_the_tap_compiles_and_loads_on_every_python_at_hand(tap_wheel, tmp_path):
    """From 3.9 on, without a warning and without anything else installed; the running one always.

    Which others are at hand is the machine's affair: a version that is missing is no failure.
    """
    with zipfile.ZipFile(tap_wheel) as wheel:
        wheel.extractall(tmp_path)
    load = "import gpuward.tap.plugin, gpuward.tap.publisher, gpuward.tap.ticker"

    for python in (sys.executable, *other_pythons()):
        run(python, "-W", "error", "-m", "compileall", "-q", "-f", tmp_path)
        run(python, "-S", "-W", "error", "-c", load, env={"PYTHONPATH": str(tmp_path)})


def other_pythons():
    """Yield each other Python 3.9 to 3.13 that runs: a version manager leaves stubs that do not."""
    for minor in range(9, 14):
        found = shutil.which(f"python3.{minor}")
        if found is None or minor == sys.version_info.minor:
            continue
        ask = [found, "-c", "import sys; print(sys.executable)"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            yield done.stdout.strip()
