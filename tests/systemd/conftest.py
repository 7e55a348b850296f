"""A real, booted systemd for tests: an overlay of this machine's files, started by systemd-nspawn.

The lower layer is ``/`` itself, so everything that is installed here is installed there; what a
test writes lives in a tmpfs that ends with the machine.  Nothing on the host changes: the mounts
are in a mount namespace of their own, the network is private, the machine is not registered.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
UNITS = PROJECT / "systemd"
SOURCE_ROOTS = (
    "agent",
    "agent/tap",
    "coordinator",
    "daemon",
    "native",
    "native/simulator",
    "protos",
)

AGENT_CONFIG = """
[coordinator]
address = "127.0.0.1:9479"
report_interval_s = 1.0
"""

BOOT = r"""
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
cp -a "$2/." "$1/upper/"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
folder=$1; shift 2
exec systemd-nspawn --quiet --directory="$folder/root" --boot --register=no --keep-unit \
    --private-network --console=pipe "$@"
"""

# What packages provide at these paths; here they run the working tree, mounted below /opt because
# the units hide home directories and the tree may be in one.
LAUNCHER = """#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH={python_path}
exec /opt/python/bin/python{version} {arguments} "$@"
"""
ARGUMENTS = {
    "usr/bin/gpuward": "-c 'from gpuward.cli.main import main; main()'",
    "usr/bin/python3": "",
}
GET = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1]).read().decode())"


class Machine:
    """A booted container; ``run`` executes a command in it as a shell on the machine would."""

    def __init__(self, nspawn: subprocess.Popen[bytes], leader: int) -> None:
        self._nspawn = nspawn
        self._leader = leader

    def run(self, *argv: str, check: bool = True) -> str:
        """Return the command's output, without the last newline."""
        enter = ("nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C")
        done = subprocess.run(
            (*enter, *argv), capture_output=True, text=True, timeout=200, check=False
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.rstrip("\n")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return the unit's properties, as ``systemctl show`` prints them."""
        text = self.run("systemctl", "show", unit, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in text.splitlines())

    def start(self, unit: str) -> None:
        """Start the unit; a failure shows what the journal says of it."""
        try:
            self.run("systemctl", "start", unit)
        except pytest.fail.Exception as error:
            journal = self.run("journalctl", "--no-pager", "--lines=40", f"--unit={unit}")
            pytest.fail(f"{error}\n{journal}")

    def get(self, url: str) -> str:
        """Return what the machine's loopback serves at ``url``."""
        argv = ("nsenter", "-t", str(self._leader), "-n", sys.executable, "-c", GET, url)
        return subprocess.run(argv, capture_output=True, text=True, timeout=200, check=True).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file on the machine."""
        inside = Path(f"/proc/{self._leader}/root{path}")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text)
        inside.chmod(mode)


@pytest.fixture(scope="session")
def machine(tmp_path_factory):
    """A machine with the units installed and ``/usr/bin/gpuward`` running the working tree."""
    why_not = _why_no_nspawn()
    if why_not:
        pytest.skip(why_not)
    folder, seed = tmp_path_factory.mktemp("machine"), tmp_path_factory.mktemp("seed")
    _seed(seed)
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", BOOT, "boot"]
    options = [
        f"--machine=gpuward-test-{os.getpid()}",
        "--capability=CAP_SYSLOG",  # a node has it, a container does not unless asked
        *_binds(),
        "--",
        "--unit=basic.target",
    ]
    with (folder.parent / "console").open("wb") as console:
        nspawn = subprocess.Popen([*argv, folder, seed, *options], stdout=console, stderr=console)
    try:
        yield Machine(nspawn, _wait_for_leader(nspawn, Path(console.name)))
    finally:
        _power_off(nspawn)


def _power_off(nspawn: subprocess.Popen[bytes]) -> None:
    """Stop every service in order, as a node that shuts down does; the machine must end well."""
    nspawn.terminate()
    try:
        status = nspawn.wait(timeout=200)
    except subprocess.TimeoutExpired:
        nspawn.kill()
        raise
    assert status == 0, "the machine did not power off cleanly"


def _why_no_nspawn() -> str:
    if shutil.which("systemd-nspawn") is None:
        return "systemd-nspawn is not installed (Debian package systemd-container)"
    if os.geteuid() != 0:
        return "systemd-nspawn --boot needs root"
    return ""


def _seed(seed: Path) -> None:
    """Write what the packages install, and an empty machine-id that makes it another machine."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    paths = [*(f"/opt/gpuward/{root}" for root in SOURCE_ROOTS), "/opt/site-packages"]
    seed.chmod(0o755)  # it becomes the machine's root directory
    files = {
        "etc/machine-id": "",
        "etc/gpuward/agent.toml": AGENT_CONFIG,
        "etc/gpuward/coordinator.toml": "",
        "usr/lib/sysusers.d/gpuward.conf": (UNITS / "gpuward.sysusers.conf").read_text(),
        "usr/lib/tmpfiles.d/gpuward.conf": (UNITS / "gpuward.tmpfiles.conf").read_text(),
    }
    for name, arguments in ARGUMENTS.items():
        files[name] = LAUNCHER.format(
            python_path=":".join(paths), version=version, arguments=arguments
        )
    for unit in UNITS.glob("*.service"):
        files[f"usr/lib/systemd/system/{unit.name}"] = unit.read_text()
    for name, text in files.items():
        path = seed / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ARGUMENTS:
        (seed / name).chmod(0o755)


def _binds() -> list[str]:
    return [
        f"--bind-ro={PROJECT}:/opt/gpuward",
        f"--bind-ro={sys.base_prefix}:/opt/python",
        f"--bind-ro={sysconfig.get_path('purelib')}:/opt/site-packages",
    ]


def _wait_for_leader(nspawn: subprocess.Popen[bytes], console: Path) -> int:
    """Return the pid, as seen here, of the machine's first process once its system is up."""
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
    deadline = time.monotonic() + 200
    while nspawn.poll() is None and time.monotonic() < deadline:
        for child in children.read_text().split():
            if _is_up(int(child)):
                return int(child)
        time.sleep(0.1)
    nspawn.kill()
    pytest.fail(f"systemd did not boot under systemd-nspawn:\n{console.read_text()}")


def _is_up(leader: int) -> bool:
    enter = ("nsenter", "-t", str(leader), "-m", "-p", "-C")
    state = subprocess.run(
        (*enter, "systemctl", "is-system-running"), capture_output=True, text=True, check=False
    )
    return state.stdout.strip() in {"running", "degraded"}
