"""Sample how fast each replica is by what it usually does, from what the other samplers said.

What is usual is learned over hours, so it outlives the agent in a file of the state folder.  The
file is small; it is written beside its place and renamed, each minute, so that a crash leaves the
old one.  One that cannot be read is begun anew: what is usual is learned in ten minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.learned_file import LearnedFile
from gpuward.agent.model import Batch, SeriesKey
from gpuward.agent.replica_load import TOKENS
from gpuward.agent.replica_watch import REQUESTS, TURN_S, ReplicaWatch, look, samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuward.agent.model import Sample
    from gpuward.agent.window import Window

WRITE_EVERY_S = 60.0
# Addresses that come and go; the one that was not seen for longest is forgotten first.
MOST_REPLICAS = 64


class LatencySampler:
    """Learns from ``window`` and keeps what it learned at ``path``."""

    name = "latency"
    period_s = TURN_S

    def __init__(self, path: Path, window: Callable[[float], Window]) -> None:
        self._file = LearnedFile(path, ReplicaWatch, most=MOST_REPLICAS)
        self._window = window
        # By service and address.
        self._watched = self._file.read()
        self._written_s = float("-inf")

    async def sample(self, now_s: float) -> Batch:
        window = self._window(now_s)
        said: list[Sample] = []
        for service, endpoint in _replicas(window):
            replica = SeriesKey("", service=service, endpoint=endpoint)
            name = f"{service} {endpoint}"
            # Taken out and put back, so that the one that was not seen for longest comes first.
            watch = look(window, replica, self._watched.pop(name, ReplicaWatch()))
            self._watched[name] = watch
            said += samples(window, replica, watch)
        is_due = self._watched and now_s - self._written_s >= WRITE_EVERY_S
        if is_due and self._file.write(self._watched):
            self._written_s = now_s
        return Batch(samples=tuple(said))


def _replicas(window: Window) -> dict[tuple[str, str], None]:
    keys = (*window.keys(TOKENS), *window.keys(REQUESTS))
    return dict.fromkeys((key.service, key.endpoint) for key in keys)
