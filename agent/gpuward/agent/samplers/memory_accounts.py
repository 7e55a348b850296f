"""Sample how the memory of a GPU adds up: what NVML says, against what allocators say.

Used memory is of processes, or of nobody (a process that died and did not let go); a process's
memory is of its caching allocator, or overhead (context, NCCL, cuBLAS, graphs), which leaks too.
How much of it is in sight of a tap says how far the other findings can be trusted.  All from what
the samplers of NVML and of the tap said: nothing is read here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.fragmentation import is_virtual
from gpuward.agent.fragmentation_cache import DRIVER_USED, RESERVED, members
from gpuward.agent.model import Batch, Sample, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.window import Window

GPU_USED = "gpu_memory_used_bytes"
GPU_PROCESSES = "gpu_processes"
UNATTRIBUTED = "gpu_memory_unattributed_bytes"
TAPPED_RATIO = "gpu_memory_tapped_ratio"
OVERHEAD = "process_memory_overhead_bytes"
VIRTUAL = "process_memory_virtual"
TAPPED = "process_tapped"
TAPPED_PROCESSES = "process_memory_tapped_processes"


class MemoryAccounts:
    """Adds up what ``window`` shows, at the pace at which NVML lists processes."""

    name = "memory_accounts"
    period_s = 5.0

    def __init__(self, window: Callable[[float], Window]) -> None:
        self._window = window

    async def sample(self, now_s: float) -> Batch:
        return Batch(samples=tuple(accounts(self._window(now_s))))


def accounts(window: Window) -> Iterator[Sample]:
    """Yield the series of every GPU and of every process whose memory NVML tells."""
    for gpu in window.gpus:
        held = {
            key.process: sample.value
            for key in window.keys(DRIVER_USED)
            if key.gpu == gpu.uuid and (sample := window.latest(key))
        }
        seen = set()
        for process, used in held.items():
            key = SeriesKey("", gpu=gpu.uuid, process=process)
            is_seen = _reserved(window, key) is not None
            if is_seen:
                seen.add(process)
            yield _sample(window, TAPPED, gpu.uuid, float(is_seen), process)
            yield from _beside_the_cache(window, key, used)
        total = sum(held.values())
        if total > 0:
            ratio = sum(held[process] for process in seen) / total
            yield _sample(window, TAPPED_RATIO, gpu.uuid, ratio)
        yield from _unattributed(window, gpu.uuid, held)


def _beside_the_cache(window: Window, key: SeriesKey, used: float) -> Iterator[Sample]:
    reserved = _reserved(window, key)
    tapped = window.latest(SeriesKey(TAPPED_PROCESSES, gpu=key.gpu, process=key.process))
    # NVML sums all that go by one key; the taps must be as many, or the rest would be overhead.
    if reserved is None or tapped is None:
        return
    if int(tapped.value) != len(members(window, key.process, key.gpu)):
        return
    asleep = is_virtual(int(reserved), int(used))
    yield _sample(window, VIRTUAL, key.gpu, float(asleep), key.process)
    if not asleep:
        yield _sample(window, OVERHEAD, key.gpu, max(0.0, used - reserved), key.process)


def _unattributed(window: Window, gpu: str, held: dict[str, float]) -> Iterator[Sample]:
    used = window.latest(SeriesKey(GPU_USED, gpu=gpu))
    count = window.latest(SeriesKey(GPU_PROCESSES, gpu=gpu))
    # A process whose memory NVML does not tell (MIG, WDDM) could hold all of it.
    untold = any(gpu in one.gpus and one.key not in held for one in window.processes)
    if used is None or count is None or untold or (count.value > 0 and not held):
        return
    yield _sample(window, UNATTRIBUTED, gpu, max(0.0, used.value - sum(held.values())))


def _reserved(window: Window, key: SeriesKey) -> float | None:
    sample = window.latest(SeriesKey(RESERVED, gpu=key.gpu, process=key.process))
    return None if sample is None else sample.value


def _sample(window: Window, signal: str, gpu: str, value: float, process: str = "") -> Sample:
    return Sample(SeriesKey(signal, gpu=gpu, process=process), window.now_s, value)
