"""What advice on a process's memory depends on beside its cache: settings, neighbours, engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_cache import DRIVER_USED, latest
from gpuward.agent.kv_room import ACTIVE, kv_room
from gpuward.agent.model import Evidence, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.fragmentation_cache import Cache
    from gpuward.agent.kv_room import KvRoom
    from gpuward.agent.model import Subject
    from gpuward.agent.window import Window

PRIVATE_POOL = "process_memory_private_pool_bytes"
PRIVATE_FREE = "process_memory_private_pool_free_bytes"
ROUNDING = "process_memory_rounding_waste_ratio"
ROUNDUP = "process_memory_roundup_divisions"
MAX_SPLIT = "process_memory_max_split_size_bytes"
UNUSABLE = "process_memory_unusable_free_ratio"
UTILIZATION = "process_gpu_memory_utilization_limit_ratio"


@dataclass(frozen=True, slots=True)
class Around:
    """What advice depends on beside the cache; ``None`` where nobody says."""

    room: KvRoom | None = None
    # Free in the pools of graphs, or all of them where nobody looked: a restart takes it again.
    private_pool: float = 0.0
    rounding_waste_ratio: float = 0.0
    active: float = 0.0
    roundup_divisions: float | None = None
    max_split_size: float | None = None
    # Figures are of a walk over the blocks: what is stranded is without private pools, and no guess
    # where segments are expandable.
    is_walked: bool = True
    # What others hold of the same memory.
    neighbours: float = 0.0
    # The process has a slice of the GPU: figures of the card are not its own.
    is_sliced: bool = False
    utilization_limit: float | None = None


# What is beside the cache, and what of it is free and of no use: told where it is known.
FACTS = (
    ("process_memory_overhead_bytes", "bytes"),
    (PRIVATE_POOL, "bytes"),
    (UNUSABLE, "ratio"),
    (ROUNDING, "ratio"),
)


def facts(window: Window, subject: Subject) -> Iterator[Evidence]:
    """Yield what else is known of the memory of the subject's process."""
    for signal, unit in FACTS:
        sample = window.latest(SeriesKey(signal, gpu=subject.gpu, process=subject.process))
        if sample is not None:
            yield Evidence(signal, sample.value, unit, source="tap", at_s=sample.at_s)


def around(window: Window, cache: Cache, subject: Subject) -> Around:
    """Return what is known around ``cache``, which is that of the subject's process."""
    key = SeriesKey("", gpu=subject.gpu, process=subject.process)
    walked = window.latest(SeriesKey(PRIVATE_FREE, gpu=subject.gpu, process=subject.process))
    sliced = any(gpu.mig for gpu in window.gpus if gpu.uuid == subject.gpu)
    others = [
        sample.value
        for other in window.keys(DRIVER_USED)
        if other.gpu == subject.gpu and other.process != subject.process and not sliced
        if (sample := window.latest(other)) is not None
    ]
    return Around(
        room=kv_room(window, subject),
        private_pool=walked.value if walked else latest(window, key, PRIVATE_POOL) or 0.0,
        rounding_waste_ratio=latest(window, key, ROUNDING) or 0.0,
        active=latest(window, key, ACTIVE) or 0.0,
        roundup_divisions=latest(window, key, ROUNDUP),
        max_split_size=latest(window, key, MAX_SPLIT),
        is_walked=walked is not None and walked.at_s == cache.at_s,
        neighbours=sum(others),
        is_sliced=sliced,
        utilization_limit=latest(window, key, UTILIZATION),
    )
