"""Which of the processes on a GPU is a probe worker of ours: it serves nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.model import Process

UNIT = "gpuward-probe@"
# What one is called that runs in no unit: its module.
KEY = "gpuward.agent.probe_worker"


def is_worker(process: Process) -> bool:
    """Return whether it is one, of systemd or of nobody's unit."""
    return process.unit.startswith(UNIT) or process.key == KEY
