"""The agent beside starting engines: started, upgraded, killed, and killed for lack of memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")
MIB = 1 << 20
# Takes more than there is, and no more than the agent's death makes room for.
HOG = "held = b'x' * (40 << 20); input()"
ROOM_BYTES = 16 * MIB
# Whom the kernel takes first: on a node it is the agent before the workers as well (systemd/).
FIRST_TO_GO = "1000"
WITHIN_S = 200.0


class AgentError(Exception):
    """The agent did not do what was asked of it."""


class Agent:
    """One agent in ``folder``, in a memory group of its own where the kernel lets us make one."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self._process: subprocess.Popen | None = None
        self._group = _memory_group()
        self.killed_by_kernel = 0

    def start(self) -> None:
        """Start it and return when it serves."""
        addresses = self.folder / "agent" / "addresses.json"
        addresses.unlink(missing_ok=True)
        config = str(self.folder / "agent.toml")
        argv = [sys.executable, "-P", "-m", "gpuward.agent", "run", "--config", config]
        argv = self._in_group(argv)
        with (self.folder / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        _wait(lambda: addresses.exists() or self._process.poll() is not None)
        if self._process.poll() is not None:
            raise AgentError(f"the agent ended: {(self.folder / 'agent.log').read_text()[-2000:]}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def starve(self) -> None:
        """Have the kernel kill it for lack of memory, or do as the kernel would."""
        if self._group is None:
            self.kill()
            return
        used = int((self._group / "memory.usage_in_bytes").read_text())
        limit = self._group / "memory.limit_in_bytes"
        limit.write_text(str(used + ROOM_BYTES))
        Path(f"/proc/{self._process.pid}/oom_score_adj").write_text(FIRST_TO_GO)
        argv = self._in_group([sys.executable, "-c", HOG])
        hog = subprocess.Popen(argv, stdin=subprocess.PIPE)
        try:
            _wait(lambda: self._process.poll() is not None)
        finally:
            hog.kill()
            hog.communicate()
            limit.write_text("-1")
        if self._process.returncode != -signal.SIGKILL:
            raise AgentError(f"the agent ended with {self._process.returncode}, not killed")
        self.killed_by_kernel += 1

    def close(self) -> None:
        """End it and all that it has started, workers too."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        for pid in workers(self.folder):
            os.kill(pid, signal.SIGTERM)
        if self._group is not None:
            _wait(lambda: not (self._group / "cgroup.procs").read_text())
            self._group.rmdir()

    def _in_group(self, argv: list[str]) -> list[str]:
        if self._group is None:
            return argv
        return ["sh", "-c", f'echo $$ > {self._group}/cgroup.procs; exec "$@"', "sh", *argv]

    def _end(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        self._process.wait(WITHIN_S)


def workers(folder: Path) -> list[int]:
    """Return the pids of probe workers whose sockets are in ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"gpuward.agent.probe_worker" in words and str(folder).encode() in b" ".join(words):
            found.append(int(path.parent.name))
    return found


def _memory_group() -> Path | None:
    group = MEMORY_CGROUP / f"gpuward-starts-{os.getpid()}"
    try:
        group.mkdir()
        if not (group / "memory.limit_in_bytes").exists():
            group.rmdir()
            return None
    except OSError:
        return None
    return group


def _wait(condition) -> None:
    until_s = time.monotonic() + WITHIN_S
    while not condition():
        if time.monotonic() > until_s:
            raise AgentError(f"waited in vain for {WITHIN_S:.0f} s")
        time.sleep(0.02)
