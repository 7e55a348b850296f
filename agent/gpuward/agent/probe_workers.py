"""Start the probe workers that nobody else starts, and find those that there are.

Under systemd each worker is a unit, and a GPU is measured where an operator has enabled it.
Without systemd, where CuPy is installed, the agent starts them, each in a session of its own.  They
leave with the agent, however it ends, but for one that holds a context: it goes on without us,
because its end gives memory back, which could end an engine that is starting.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
from functools import cache
from typing import TYPE_CHECKING

import structlog

from gpuward.daemon import subprocesses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "gpuward.agent.probe_worker")
CPU = "cpu"
FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0
# One second after SIGTERM, one after SIGKILL.
LEAVE_POLLS = 50
POLL_S = 0.02


class Workers:
    """Sockets below ``directory``, and the processes behind those that we have started."""

    def __init__(
        self,
        directory: Path,
        *,
        starts_gpu_workers: bool = False,
        command: Sequence[str] = COMMAND,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """``starts_gpu_workers``: also those of GPUs, where CuPy is installed."""
        self.directory = directory
        has_cupy = importlib.util.find_spec("cupy") is not None
        self._starts_gpu_workers = starts_gpu_workers and has_cupy
        self._command = command
        self._env = env
        self._started: dict[str, subprocesses.Child] = {}
        # By device, our end of a pipe that its worker watches.
        self._ours: dict[str, int] = {}
        self._start_s: dict[str, float] = {}
        self._back_off_s: dict[str, float] = {}

    def path(self, device: str) -> Path:
        """Return where the worker of ``device`` listens, if there is one."""
        return self.directory / f"{device}.sock"

    def listening(self) -> list[str]:
        """Return the GPUs that have a socket, of a living worker or of a dead one."""
        try:
            names = os.listdir(self.directory)  # noqa: PTH208 - every second; a tenth of the work
        except OSError:
            return []
        stems = (name.removesuffix(".sock") for name in names if name.endswith(".sock"))
        return sorted(stem for stem in stems if stem != CPU)

    def starts(self, device: str) -> bool:
        """Return whether it is ours to start a worker of ``device``."""
        if device == CPU:
            return True
        return self._starts_gpu_workers and _has_cupy()

    def answered(self, device: str) -> None:
        """Begin anew with waiting: the worker of ``device`` is there."""
        self._back_off_s.pop(device, None)

    def start(self, device: str, now_s: float) -> None:
        """Start a worker of ``device``, unless one runs or has just failed."""
        before = self._started.get(device)
        if now_s < self._start_s.get(device, 0.0) or (before and before.poll() is None):
            return
        if before:
            log.warning("probe_worker.ended", device=device, status=before.poll())
        back_off_s = self._back_off_s.get(device, FIRST_BACK_OFF_S)
        self._start_s[device] = now_s + back_off_s
        self._back_off_s[device] = min(2 * back_off_s, LONGEST_BACK_OFF_S)
        self._started[device] = self._start(device)

    def _start(self, device: str) -> subprocesses.Child:
        self._let_go(device)
        theirs, self._ours[device] = os.pipe()
        words = ("--gpu", device, "--socket", str(self.path(device)), "--leave-with", str(theirs))
        try:
            return subprocesses.start((*self._command, *words), env=self._env, pass_fds=(theirs,))
        finally:
            os.close(theirs)

    async def stop(self) -> None:
        """Ask the processor's worker that we started to stop, and let go of the others."""
        for device in list(self._ours):
            self._let_go(device)
        worker = self._started.pop(CPU, None)
        if worker is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if worker.poll() is None:
                subprocesses.kill_group(worker.pid, number)
            for _ in range(LEAVE_POLLS):
                if worker.poll() is not None:
                    return
                await asyncio.sleep(POLL_S)

    def _let_go(self, device: str) -> None:
        """Close our end of the worker's pipe, as it would be if we were killed."""
        if device in self._ours:
            os.close(self._ours.pop(device))


@cache
def _has_cupy() -> bool:
    """Return whether cupy is installed: a search of every folder, and asked every second."""
    return importlib.util.find_spec("cupy") is not None
