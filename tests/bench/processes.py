"""Start gpuward's daemons as a user does, and read from /proc what they cost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Beside the interpreter that runs us: the console script of the same environment.
GPUWARD = Path(sys.executable).with_name("gpuward")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
READY_WITHIN_S = 30.0
KIB_PER_MIB = 1024


@contextmanager
def daemon(
    name: str, config: Path, state: Path, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen, dict[str, str]]]:
    """Run `gpuward NAME run` inside the block; yields it and its addresses once it is ready."""
    addresses = state / "addresses.json"
    with started([GPUWARD, name, "run", "--config", config], config.with_suffix(".log"), env) as it:
        wait_for(addresses.exists, it)
        yield it, json.loads(addresses.read_text())


@contextmanager
def started(
    argv: list[object], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    """Run a command in a session of its own inside the block; its output goes to ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else dict(env),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    """Return once ``condition`` holds; raises ``RuntimeError`` when the process ends before."""
    deadline_s = time.monotonic() + READY_WITHIN_S
    while not condition():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with status {process.returncode}")
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"waited in vain for {READY_WITHIN_S:.0f} s")
        time.sleep(0.02)


def cpu_s(pid: int) -> float:
    """Return user and system time of all threads, ever: fields 14 and 15 of /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def pss_mib(pid: int) -> float:
    """Return the proportional set size: pages shared with others count by their share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / KIB_PER_MIB


def children(pid: int) -> dict[str, int]:
    """Return the pids of the direct children by the module that each runs."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread, or a child, may end while it is looked at.
        with contextlib.suppress(FileNotFoundError):
            for child in (task / "children").read_text().split():
                words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
                module = words[words.index("-m") + 1] if "-m" in words else words[0]
                found[module] = int(child)
    return found
