"""gpuward simulate, as one types it."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpuward.simulator import libraries as built
from gpuward.simulator.layout import StateRow
from gpuward.simulator.libraries import NotBuiltError, environment, library_directory

pytestmark = pytest.mark.simulator

SIMULATE = (sys.executable, "-c", "from gpuward.cli.main import main; main()", "simulate")
COUNT = "from pynvml import *; nvmlInit(); print(nvmlDeviceGetCount())"


def simulate(*arguments, **options):
    return subprocess.run(
        [*SIMULATE, *arguments], capture_output=True, text=True, check=False, **options
    )


def test_runs_a_command(libraries):
    """The command sees the profile's machine, and its output is its own."""
    done = simulate("h100-sxm-x8", "--", sys.executable, "-c", COUNT)

    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param("exit 0", 0, id="success"),
        pytest.param("exit 7", 7, id="failure"),
        pytest.param("kill -TERM $$", 143, id="signal"),
    ],
)
def test_exit_status(libraries, script, status):
    """Our exit status is the command's, as a shell would report it."""
    assert simulate("rtx4090-x1", "--", "sh", "-c", script).returncode == status


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        pytest.param(["what", "--", "true"], 2, "Error: what: no such scenario file", id="name"),
        pytest.param(
            ["rtx4090-x1", "--", "/no/such"], 127, "Error: /no/such: No such", id="command"
        ),
        pytest.param(["rtx4090-x1"], 2, "Missing argument 'COMMAND...'", id="no command"),
        pytest.param(
            ["rtx4090-x1", "--state", "/no/such/state", "--", "true"],
            1,
            "Error: /no/such/state: No such file or directory",
            id="state",
        ),
    ],
)
def test_bad_input(libraries, arguments, status, message):
    """What is wrong is said in one line, without a traceback."""
    done = simulate(*arguments)

    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_scenario(libraries, tmp_path):
    """A wrong scenario is named by file and place, with the status of a configuration error."""
    path = tmp_path / "s.toml"
    path.write_text('profile = "rtx4090-x1"\n[[steps]]\nat_s = 1\ndo = "fly"\n')
    done = simulate(str(path), "--", "true")

    assert done.returncode == 2
    assert done.stderr == f"Error: {path}: Invalid value 'fly' - at `$.steps[0].do`\n"


def test_root_and_state(libraries, tmp_path):
    """Both can be put where one likes, are named to the command, and stay."""
    done = simulate(
        *("rtx4090-x1", "--root", str(tmp_path / "r"), "--state", str(tmp_path / "s")),
        *("--", "sh", "-c", "echo $GPUWARD_SIM_ROOT $GPUWARD_SIM_STATE"),
    )

    assert done.stdout == f"{tmp_path / 'r'} {tmp_path / 's'}\n"
    assert (tmp_path / "r" / "dev" / "kmsg").exists()
    assert (tmp_path / "s").stat().st_size == ctypes.sizeof(StateRow)


def test_cleans_up(libraries):
    """Temporary files and the scenario's processes are gone afterwards."""
    done = simulate("rtx4090-x1", "--", "sh", "-c", "ls $GPUWARD_SIM_ROOT; echo $GPUWARD_SIM_STATE")
    *folders, state = done.stdout.split()

    assert folders == ["dev", "proc", "sys"]
    assert not Path(state).parent.exists()


def test_scenario_plays(libraries, tmp_path):
    """Steps at 0 s come before the command; a process of the scenario is in NVML's list."""
    path = tmp_path / "s.toml"
    path.write_text(
        'profile = "rtx4090-x1"\n'
        '[[steps]]\nat_s = 0\ndo = "start"\nprocess = "engine"\nmemory_bytes = 1_000_000\n'
    )
    script = (
        "from pynvml import *; nvmlInit(); h = nvmlDeviceGetHandleByIndex(0);"
        "p, = nvmlDeviceGetComputeRunningProcesses(h);"
        "print(p.usedGpuMemory, nvmlSystemGetProcessName(p.pid), p.pid)"
    )
    done = simulate(str(path), "--", sys.executable, "-c", script)
    memory, name, pid = done.stdout.split()

    assert (memory, Path(name).name) == ("1000000", "sleep")
    assert not Path("/proc", pid).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(libraries, tmp_path, number):
    """A signal to us reaches the command, which decides what becomes of it."""
    script = "trap 'exit 9' TERM INT; touch $0/ready; while :; do sleep 0.02; done"
    running = subprocess.Popen([*SIMULATE, "rtx4090-x1", "--", "sh", "-c", script, str(tmp_path)])
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    running.send_signal(number)

    assert running.wait() == 9


def test_where_the_libraries_are(monkeypatch, tmp_path):
    """The package's folder comes first, then site-packages; nowhere is one clear line."""
    package, site = tmp_path / "package", tmp_path / "site"
    monkeypatch.setattr(built, "__file__", str(package / "libraries.py"))
    monkeypatch.setattr(built.sysconfig, "get_path", lambda _: str(site))
    with pytest.raises(
        NotBuiltError, match=r"libnvidia-ml\.so\.1 is not in .*package/lib or .*site"
    ):
        library_directory()

    for folder in (site / "gpuward/simulator/lib", package / "lib"):
        folder.mkdir(parents=True)
        (folder / "libnvidia-ml.so.1").touch()
        assert library_directory() == folder


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, "{lib}", id="first"),
        pytest.param({"LD_LIBRARY_PATH": "/opt/x"}, "{lib}:/opt/x", id="others stay"),
    ],
)
def test_environment(libraries, tmp_path, before, after):
    """Our libraries come before all others, and the rest of the environment is kept."""
    env = environment(tmp_path / "s", tmp_path / "r", base={**before, "LANG": "C"})

    assert env == {
        "LANG": "C",
        "LD_LIBRARY_PATH": after.format(lib=libraries),
        "GPUWARD_SIM_STATE": str(tmp_path / "s"),
        "GPUWARD_SIM_ROOT": str(tmp_path / "r"),
    }
    assert os.environ.get("GPUWARD_SIM_STATE") is None
