"""Publish the replica's counters through the tap's own publisher, as the tap in torch would.

And answer questions for its memory map, by the tap's own walks and within their budget.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import structlog

from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.state import State
from gpuward.simulator.workload_memory import ReplicaMemory, SharedDevice
from gpuward.tap import layout
from gpuward.tap.memory_walk import Walk
from gpuward.tap.publisher import Publisher
from gpuward.tap.walks import Walks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path
    from typing import Any

    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

PERIOD_S = 1.0


def tapped_memory(
    gpu: int, alloc_conf: str, directory: Path, stack: ExitStack
) -> tuple[ReplicaMemory, ReplicaTap]:
    """Return memory on GPU ``gpu`` of the simulated driver, and the tap of it in ``directory``.

    ``stack`` gives both back.  Raises ``StateError`` without a simulated driver and ``ValueError``
    for allocator options that the replica does not know.
    """
    config = AllocatorConfig.parse(alloc_conf)
    device = SharedDevice(State.open(), gpu)
    stack.callback(device.close)
    memory = ReplicaMemory(device, config)
    tap = ReplicaTap(
        directory, device.uuid, memory.stats, conf=alloc_conf, snapshot=memory.snapshot
    )
    stack.callback(tap.close)
    memory.attach_out_of_memory_observer(tap.out_of_memory)
    return memory, tap


class ReplicaTap:
    """The tap file of this process; it gives up quietly where a file cannot be written.

    ``snapshot``: every block, as torch shows them; without it no question is answered.
    """

    def __init__(
        self,
        directory: Path,
        gpu_uuid: str,
        stats: Callable[[], dict[str, Any]],
        *,
        conf: str,
        snapshot: Callable[[], list[dict[str, Any]]] | None = None,
    ) -> None:
        self._stats = stats
        self._snapshot = snapshot
        self.flags = layout.EXPANDABLE if "expandable_segments:True" in conf else 0
        self._publisher: Publisher | None = None
        self._walks: Walks | None = None
        gpu = uuid.UUID(gpu_uuid.removeprefix("GPU-")).bytes
        try:
            self._publisher = Publisher(
                directory,
                [(gpu, 0)],
                torch_version="replica",
                framework="gpuward-simulator",
                alloc_conf=conf,
                header_flags=0 if snapshot is None else layout.ACCEPTS_REQUESTS,
            )
            self._walks = Walks(self, self._publisher)
        except OSError as error:
            log.warning("tap.not_published", directory=str(directory), reason=str(error))

    async def run(self, clock: Clock) -> None:
        """Publish once a second until cancelled or until a write fails."""
        while self._publisher is not None:
            self._attempt(self._tick)
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

    def walk(self) -> Walk:
        """Return every block of the replica."""
        began_ns = time.monotonic_ns()
        found = [] if self._snapshot is None else self._snapshot()
        cost_ns = time.monotonic_ns() - began_ns
        # This process sees one device, whatever its index on the node.
        segments = [{**segment, "device": 0} for segment in found]
        return Walk(segments, began_ns, time.time_ns(), cost_ns)

    def is_recording(self) -> bool:
        """The replica keeps no record of who allocates."""
        return False

    def close(self) -> None:
        if self._walks is not None:
            self._walks.close()
        if self._publisher is not None:
            self._publisher.close()

    def _tick(self, publisher: Publisher) -> bool:
        stats = self._stats()
        if self._walks is None:
            return publisher.publish(0, stats, flags=self.flags)
        self._walks.look(may_ask=True)
        self._walks.consider([stats])
        return publisher.publish(0, stats, flags=self.flags | self._walks.flags)

    def _attempt(self, write: Callable[[Publisher], bool]) -> None:
        if self._publisher is None:
            return
        try:
            write(self._publisher)
        except OSError as error:
            log.warning("tap.publishing_stopped", reason=str(error))
            self._publisher.close()
            self._publisher = None
