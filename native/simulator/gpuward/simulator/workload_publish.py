"""Publish the replica's counters through the tap's own publisher, as the tap in torch would."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import structlog

from gpuward.tap import layout
from gpuward.tap.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

PERIOD_S = 1.0


class ReplicaTap:
    """The tap file of this process; it gives up quietly where a file cannot be written."""

    def __init__(
        self, directory: Path, gpu_uuid: str, stats: Callable[[], dict[str, Any]], *, conf: str
    ) -> None:
        self._stats = stats
        self._flags = layout.EXPANDABLE if "expandable_segments:True" in conf else 0
        self._publisher: Publisher | None = None
        gpu = uuid.UUID(gpu_uuid.removeprefix("GPU-")).bytes
        try:
            self._publisher = Publisher(
                directory,
                [(gpu, 0)],
                torch_version="replica",
                framework="gpuward-simulator",
                alloc_conf=conf,
            )
        except OSError as error:
            log.warning("tap.not_published", directory=str(directory), reason=str(error))

    async def run(self, clock: Clock) -> None:
        """Publish once a second until cancelled or until a write fails."""
        while self._publisher is not None:
            self._attempt(lambda publisher: publisher.publish(0, self._stats(), flags=self._flags))
            await clock.sleep_until(clock.mono_s() + PERIOD_S)

    def out_of_memory(
        self,
        device: int,  # noqa: ARG002 - one device, always 0 in the file
        asked: int,
        device_total: int,  # noqa: ARG002 - the record has no place for it
        device_free: int,
    ) -> None:
        """Observe an out-of-memory error of the replica."""
        self._attempt(lambda publisher: publisher.record_oom(0, asked, device_free, self._stats()))

    def close(self) -> None:
        if self._publisher is not None:
            self._publisher.close()

    def _attempt(self, write: Callable[[Publisher], bool]) -> None:
        if self._publisher is None:
            return
        try:
            write(self._publisher)
        except OSError as error:
            log.warning("tap.publishing_stopped", reason=str(error))
            self._publisher.close()
            self._publisher = None
