"""Sample how the memory of a GPU adds up: what NVML says, against what allocators say.

Used memory is of processes, or of nobody (a process that died and did not let go); a process's
memory is of its caching allocator, or overhead (context, NCCL, cuBLAS, graphs), which leaks too.
How much of it is in sight of a tap says how far the other findings can be trusted.  All from what
the samplers of NVML and of the tap said: nothing is read here.

A process that the driver lists and /proc does not know is gone and holds nothing: its memory is
nobody's.  Unless the agent is in a PID namespace of its own, where it sees hardly any process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.coverage import Sight, coverage_of
from gpuward.agent.fragmentation import is_virtual
from gpuward.agent.fragmentation_cache import DRIVER_USED, RESERVED, members
from gpuward.agent.model import Batch, Sample, SeriesKey
from gpuward.agent.process_identity import UNIDENTIFIED
from gpuward.agent.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.window import Window

GPU_USED = "gpu_memory_used_bytes"
GPU_PROCESSES = "gpu_processes"
UNATTRIBUTED = "gpu_memory_unattributed_bytes"
ZOMBIE = "gpu_memory_zombie_bytes"
TAPPED_RATIO = "gpu_memory_tapped_ratio"
EXPLAINED_RATIO = "gpu_memory_explained_ratio"
UNSEEN = {Sight.DEGRADED: "gpu_memory_degraded_bytes", Sight.BLIND: "gpu_memory_blind_bytes"}
OVERHEAD = "process_memory_overhead_bytes"
VIRTUAL = "process_memory_virtual"
TAPPED = "process_tapped"
TAPPED_PROCESSES = "process_memory_tapped_processes"


class MemoryAccounts:
    """Adds up what ``window`` shows, at the pace at which NVML lists processes.

    ``sees_every_pid``: a process that cannot be identified is gone.
    """

    name = "memory_accounts"
    period_s = 5.0

    def __init__(self, window: Callable[[float], Window], *, sees_every_pid: bool) -> None:
        self._window = window
        self._sees_every_pid = sees_every_pid

    async def sample(self, now_s: float) -> Batch:
        said = accounts(self._window(now_s), sees_every_pid=self._sees_every_pid)
        return Batch(samples=tuple(said))


def accounts(window: Window, *, sees_every_pid: bool = True) -> Iterator[Sample]:
    """Yield the series of every GPU and of every process whose memory NVML tells."""
    for gpu in window.gpus:
        held = {
            key.process: sample.value
            for key in window.keys(DRIVER_USED)
            if key.gpu == gpu.uuid and (sample := window.latest(key))
        }
        gone = sees_every_pid and bool(members(window, UNIDENTIFIED, gpu.uuid))
        if sees_every_pid:
            size = held.pop(UNIDENTIFIED, None if gone else 0.0)
            yield from _zombies(window, gpu.uuid, size)
        yield from _processes(window, gpu.uuid, held)
        yield from _unattributed(window, gpu.uuid, held, gone=gone)


def _processes(window: Window, gpu: str, held: dict[str, float]) -> Iterator[Sample]:
    in_sight = dict.fromkeys(Sight, 0.0)
    for process, used in held.items():
        sight = coverage_of(window, process, gpu).sight
        in_sight[sight] += used
        yield _sample(window, TAPPED, gpu, float(sight is Sight.TAPPED), process)
        yield from _beside_the_cache(window, SeriesKey("", gpu=gpu, process=process), used)
    yield from _coverage(window, gpu, in_sight)


def _zombies(window: Window, gpu: str, size: float | None) -> Iterator[Sample]:
    """``size``: ``None`` where the driver does not tell it."""
    is_listed = window.latest(SeriesKey(GPU_PROCESSES, gpu=gpu)) is not None
    if is_listed and size is not None:
        yield _sample(window, ZOMBIE, gpu, size)


def _coverage(window: Window, gpu: str, in_sight: dict[Sight, float]) -> Iterator[Sample]:
    total, tapped = sum(in_sight.values()), in_sight[Sight.TAPPED] + in_sight[Sight.SILENT]
    if total > 0:
        yield _sample(window, TAPPED_RATIO, gpu, tapped / total)
        for sight, signal in UNSEEN.items():
            yield _sample(window, signal, gpu, in_sight[sight])
    used = window.latest(SeriesKey(GPU_USED, gpu=gpu))
    if total > 0 and used is not None and used.value > 0:
        # Readings are apart: processes may have grown since the GPU was read.
        yield _sample(window, EXPLAINED_RATIO, gpu, tapped / max(used.value, total))


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


def _unattributed(
    window: Window, gpu: str, held: dict[str, float], *, gone: bool
) -> Iterator[Sample]:
    """``gone``: there are listed processes that do not exist; they hold nothing."""
    count = window.latest(SeriesKey(GPU_PROCESSES, gpu=gpu))
    used = None if count is None else _used_at(window, gpu, count.at_s)
    # A process whose memory NVML does not tell (MIG, WDDM) could hold all of it.
    untold = any(
        gpu in one.gpus and one.key not in held
        for one in window.processes
        if not (gone and one.key == UNIDENTIFIED)
    )
    if used is None or count is None or untold or (count.value > 0 and not held and not gone):
        return
    yield _sample(window, UNATTRIBUTED, gpu, max(0.0, used.value - sum(held.values())))


def _used_at(window: Window, gpu: str, listed_s: float) -> Sample | None:
    """Return the memory in use when processes were listed, which is less often.

    Beside an older list, what a model that is being loaded has taken since would be nobody's.
    """
    key = SeriesKey(GPU_USED, gpu=gpu)
    if window.latest(key) is None:
        return None
    samples = window.values(key, listed_s - SIGNALS[GPU_USED].stale_after_s)
    before = [sample for sample in samples if sample.at_s <= listed_s]
    return before[-1] if before else (samples[0] if samples else None)


def _reserved(window: Window, key: SeriesKey) -> float | None:
    sample = window.latest(SeriesKey(RESERVED, gpu=key.gpu, process=key.process))
    return None if sample is None else sample.value


def _sample(window: Window, signal: str, gpu: str, value: float, process: str = "") -> Sample:
    return Sample(SeriesKey(signal, gpu=gpu, process=process), window.now_s, value)
