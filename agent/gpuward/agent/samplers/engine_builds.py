"""Remember what the services of this node run, so that a change is known after our own restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.engine_build import Running, follow
from gpuward.agent.learned_file import LearnedFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gpuward.agent.engine_build import Build
    from gpuward.agent.samplers.engine_replica import Replica

# Services that come and go over the years; the one seen first is forgotten first.
MOST_SERVICES = 256


class EngineBuilds:
    """What is running, by service; ``path``: ``None`` where it need not outlive us."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else LearnedFile(path, Running, most=MOST_SERVICES)
        self._known = {} if self._file is None else self._file.read()
        # The live builds that were looked at last: they change a few times a month.
        self._live: dict[str, list[tuple[Build, float]]] = {}

    def close(self) -> None:
        if self._file is not None:
            self._file.close(self._known)

    def follow(self, replicas: Iterable[Replica]) -> None:
        """Take in what the replicas that answer run now."""
        live: dict[str, list[tuple[Build, float]]] = {}
        for replica in replicas:
            if replica.seen is not None:
                of_service = live.setdefault(replica.engine.service, [])
                of_service.append((replica.build, replica.seen.started_wall_s))
        if live == self._live:
            return
        self._live = live
        for service, builds in live.items():
            running = follow(self._known.get(service), builds)
            if running is not None:
                self._known[service] = running
        if self._file is not None:
            self._file.write(self._known)

    def running(self, replica: Replica) -> Running | None:
        """Return what the service of ``replica`` has changed to, when that is what it runs."""
        known = self._known.get(replica.engine.service)
        if known is None or not known.changed_wall_s or replica.build.differs(known.now):
            return None
        return known
