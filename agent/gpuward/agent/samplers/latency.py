"""Sample how fast each replica is by what it usually does, from what the other samplers said.

What is usual is learned over hours, so it outlives the agent in a file of the state folder.  The
file is small; it is written beside its place and renamed, each minute, so that a crash leaves the
old one.  One that cannot be read is begun anew: what is usual is learned in ten minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from gpuward.agent.model import Batch, SeriesKey
from gpuward.agent.replica_load import TOKENS
from gpuward.agent.replica_watch import REQUESTS, TURN_S, ReplicaWatch, look, samples
from gpuward.agent.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuward.agent.model import Sample
    from gpuward.agent.window import Window

log = structlog.get_logger()

WRITE_EVERY_S = 60.0
# Addresses that come and go; the one that was not seen for longest is forgotten first.
MOST_REPLICAS = 64
MOST_BYTES = 1 << 20


class LatencySampler:
    """Learns from ``window`` and keeps what it learned at ``path``."""

    name = "latency"
    period_s = TURN_S

    def __init__(self, path: Path, window: Callable[[float], Window]) -> None:
        self._path = path
        self._window = window
        # By service and address.
        self._watched = _read(path)
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
        if self._watched and now_s - self._written_s >= WRITE_EVERY_S:
            self._write(now_s)
        return Batch(samples=tuple(said))

    def _write(self, now_s: float) -> None:
        for name in list(self._watched)[:-MOST_REPLICAS]:
            del self._watched[name]
        try:
            write_whole(self._path, msgspec.json.encode(self._watched))
        except OSError as error:
            # A full disk: the next turn tries again.
            log.warning("latency.not_written", path=str(self._path), reason=error.strerror)
        else:
            self._written_s = now_s


def _replicas(window: Window) -> dict[tuple[str, str], None]:
    keys = (*window.keys(TOKENS), *window.keys(REQUESTS))
    return dict.fromkeys((key.service, key.endpoint) for key in keys)


def _read(path: Path) -> dict[str, ReplicaWatch]:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MOST_BYTES), type=dict[str, ReplicaWatch])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("latency.forgotten", path=str(path), reason=str(error))
        return {}
