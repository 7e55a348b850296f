"""Who has the driver's device files open."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuward.agent.device_holders import DeviceHolder, DeviceHolders, device_holders
from gpuward.agent.release_command import others

STAT = "{pid} ({name}) S 1 {pid} {pid} 0 -1 4194304 " + "0 " * 12 + "12345 " + "0 " * 30


@pytest.fixture
def proc(tmp_path):
    """Add processes to a /proc; a descriptor is a link, as there."""

    def add(pid, name, files, *, unit=""):
        folder = tmp_path / str(pid)
        (folder / "fd").mkdir(parents=True)
        for number, file in enumerate(files):
            (folder / "fd" / str(number)).symlink_to(file)
        (folder / "stat").write_text(STAT.format(pid=pid, name=name))
        (folder / "cgroup").write_text(f"0::/system.slice/{unit}\n" if unit else "0::/\n")
        return folder

    (tmp_path / "self").mkdir()
    add.root = tmp_path
    return add


def test_each_process_that_has_one_open(proc):
    """Each file once, and of each process the name that it is stopped by."""
    unit = "nvidia-persistenced.service"
    proc(900, "nvidia-persiste", ["/dev/nvidiactl", "/dev/nvidia0"], unit=unit)
    proc(31, "python3", ["/dev/nvidia1", "/dev/null", "/dev/nvidia1", "/dev/nvidia-uvm"])
    proc(32, "bash", ["/dev/null", "/home/ada/dev/nvidia0", "socket:[7]"])
    proc(33, "mig", ["/dev/nvidia-caps/nvidia-cap12"])

    assert device_holders(proc.root).found == (
        DeviceHolder(31, "python3", ("/dev/nvidia-uvm", "/dev/nvidia1")),
        DeviceHolder(33, "mig", ("/dev/nvidia-caps/nvidia-cap12",)),
        DeviceHolder(900, "nvidia-persistenced.service", ("/dev/nvidia0", "/dev/nvidiactl")),
    )


def test_a_process_that_has_ended_meanwhile(proc):
    """Neither its folder nor its name is there any more."""
    proc(5, "gone", ["/dev/nvidia0"]).joinpath("stat").unlink()
    (proc.root / "6").mkdir()

    assert device_holders(proc.root).found == (DeviceHolder(5, "", ("/dev/nvidia0",)),)


def test_processes_that_may_not_be_looked_into_are_counted(proc, monkeypatch):
    """They may hold it: nobody knows."""
    proc(5, "mine", ["/dev/nvidia0"])
    proc(6, "of root", ["/dev/nvidia0"])
    iterdir = Path.iterdir

    def refusing(path):
        if path.parent.name == "6":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refusing)

    assert device_holders(proc.root) == DeviceHolders(
        (DeviceHolder(5, "mine", ("/dev/nvidia0",)),), hidden=1
    )


@pytest.mark.parametrize(
    ("holders", "sees_all", "lines"),
    [
        pytest.param(DeviceHolders(()), True, [], id="nobody"),
        pytest.param(
            DeviceHolders((DeviceHolder(9, "vllm.service", ("/dev/nvidia0", "/dev/nvidiactl")),)),
            True,
            ["open elsewhere: /dev/nvidia0, /dev/nvidiactl by process 9, vllm.service"],
            id="one",
        ),
        pytest.param(
            DeviceHolders((), hidden=2),
            True,
            ["not looked into: 2 processes; CAP_SYS_PTRACE would show them"],
            id="not root",
        ),
        pytest.param(
            DeviceHolders(()),
            False,
            ["only processes of this container are seen: look for others on the host"],
            id="in a container",
        ),
    ],
)
def test_what_a_release_says_of_others(holders, sees_all, lines):
    """One line for each process: what it holds, and by which name it is stopped."""
    assert list(others(holders, sees_every_pid=sees_all)) == lines
