"""What the window knows of one process's cache on one GPU, and whether it is in pieces.

Several detectors ask: the one of fragmentation, and those of what follows from it, which name it as
their cause instead of telling the same story again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation import is_virtual
from gpuward.agent.fragmentation_oom import OOM, Attribution, verdict
from gpuward.agent.model import Finding, Result, SeriesKey
from gpuward.agent.remembered import once_a_window, once_an_inventory
from gpuward.agent.series_key import series_key

if TYPE_CHECKING:
    from gpuward.agent.model import Event, Process, Subject
    from gpuward.agent.window import Window

FRAGMENTATION = "process.memory.fragmentation"
RESERVED = "process_memory_reserved_bytes"
STRANDED = "process_memory_stranded_bytes"
RELEASABLE = "process_memory_releasable_bytes"
HEADROOM = "process_memory_headroom_bytes"
HEADROOM_RATIO = "process_memory_headroom_ratio"
MEAN_REQUEST = "process_memory_mean_large_request_bytes"
EXPANDABLE = "process_memory_expandable_segments"
RETRIES = "process_allocation_retries_total"
OOMS = "process_out_of_memory_total"
DRIVER_USED = "process_gpu_memory_bytes"
MIB = 2**20
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that raise; what raised them clears a fifth away from them."""

    # Share of reserved memory, from ``least_bytes`` on.
    stranded_warn_ratio: float = 0.10
    stranded_critical_ratio: float = 0.25
    least_bytes: float = 1.0 * GIB
    # Headroom in mean large requests.
    headroom_warn_ratio: float = 24.0
    headroom_critical_ratio: float = 8.0
    headroom_samples: int = 3
    # Less is no explanation for anything: from 5 % and 256 MiB on, or from ``least_bytes`` on.
    notable_ratio: float = 0.05
    notable_bytes: float = 0.25 * GIB
    recent_s: float = 60.0
    clear_factor: float = 0.8


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Cache:
    """What the window knows of one process's cache on one GPU."""

    at_s: float
    reserved: float
    stranded: float
    releasable: float
    expandable: bool
    # ``None`` while the driver is silent, the others when nothing large was asked for.
    headroom: float | None
    mean_request: float | None
    headroom_ratio: float | None
    # The best of the last few samples; ``None`` with fewer.
    lasting_ratio: float | None
    # Flushes after which the request succeeded: stalls that unbroken memory would have saved.
    retries: float
    # The last out-of-memory error that the free memory, in one piece, would have prevented.
    oom: Event | None

    @property
    def stranded_ratio(self) -> float:
        return self.stranded / self.reserved if self.reserved > 0 else 0.0

    def is_notable(self, limits: Limits = LIMITS, factor: float = 1.0) -> bool:
        """Return whether so much is stranded that it explains something."""
        return self.stranded >= limits.least_bytes * factor or (
            self.stranded >= limits.notable_bytes * factor
            and self.stranded_ratio / factor >= limits.notable_ratio
        )


@once_an_inventory
def tapped(window: Window) -> list[tuple[str, str]]:
    """Return the (process key, GPU) whose allocator somebody publishes."""
    return sorted(
        {
            (process.key, gpu)
            for process in window.processes
            if process.tapped
            for gpu in process.gpus
        }
    )


@once_an_inventory
def members(window: Window, process: str, gpu: str) -> list[Process]:
    """Return the processes that go by one key on a GPU."""
    return [one for one in window.processes if one.key == process and gpu in one.gpus]


@once_a_window
def is_known(window: Window, process: str, gpu: str) -> bool:
    """Return whether figures are fresh, and of memory that is mapped (not so in sleep mode)."""
    key = series_key("", gpu, process)
    reserved = latest(window, key, RESERVED)
    if reserved is None or latest(window, key, STRANDED) is None:
        return False
    driver_used = latest(window, key, DRIVER_USED)
    return driver_used is None or not is_virtual(int(reserved), int(driver_used))


@once_a_window
def cache_of(window: Window, process: str, gpu: str, limits: Limits = LIMITS) -> Cache | None:
    """Return what is known, ``None`` when it is not."""
    key = series_key("", gpu, process)
    reserved = window.latest(series_key(RESERVED, gpu, process))
    if reserved is None or not is_known(window, process, gpu):
        return None
    since_s = window.now_s - limits.recent_s
    oomed = risen(window, key, OOMS, since_s)
    return Cache(
        at_s=reserved.at_s,
        reserved=reserved.value,
        stranded=latest(window, key, STRANDED) or 0.0,
        releasable=latest(window, key, RELEASABLE) or 0.0,
        expandable=bool(latest(window, key, EXPANDABLE)),
        headroom=latest(window, key, HEADROOM),
        mean_request=latest(window, key, MEAN_REQUEST),
        headroom_ratio=latest(window, key, HEADROOM_RATIO),
        lasting_ratio=_lasting_ratio(window, series_key(HEADROOM_RATIO, gpu, process), limits),
        # Every error was preceded by a flush in vain.
        retries=max(0.0, risen(window, key, RETRIES, since_s) - oomed),
        oom=_fragmentation_ooms(window, since_s).get((gpu, process)),
    )


def latest(window: Window, about: SeriesKey, signal: str) -> float | None:
    """Return the fresh value of ``signal`` of the process and GPU that ``about`` names."""
    sample = window.latest(series_key(signal, about.gpu, about.process))
    return None if sample is None else sample.value


def risen(window: Window, about: SeriesKey, signal: str, since_s: float) -> float:
    """Return how much a counter has risen; a fall is a reset and counts as nothing."""
    if latest(window, about, signal) == 0:
        # Nothing ever happened, as in most processes; or it has just begun to count.
        return 0.0
    return window.risen(series_key(signal, about.gpu, about.process), since_s)


def judge(cache: Cache, limits: Limits = LIMITS, factor: float = 1.0) -> Result | None:
    """Return how bad it is; ``factor`` below 1 makes every limit that much easier to reach."""
    share = cache.stranded_ratio / factor
    large = cache.stranded >= limits.least_bytes * factor
    notable = cache.is_notable(limits, factor)
    fails = cache.oom is not None or (large and share >= limits.stranded_critical_ratio)
    if fails or (notable and cache.retries > 0):
        return Result.FAIL
    if notable and _is_why(cache, cache.headroom_ratio, limits.headroom_critical_ratio, factor):
        return Result.FAIL
    if large and share >= limits.stranded_warn_ratio:
        return Result.WARN
    if notable and _is_why(cache, cache.lasting_ratio, limits.headroom_warn_ratio, factor):
        return Result.WARN
    return None


def cause_of(cache: Cache, subject: Subject) -> tuple[str, ...]:
    """Return the key of the finding of fragmentation, where there is one, as a cause."""
    return (Finding(FRAGMENTATION, subject, "").dedup_key,) if judge(cache) else ()


def _is_why(cache: Cache, ratio: float | None, limit: float, factor: float) -> bool:
    """Return whether headroom is below ``limit``, and in one piece the cache would put it above."""
    if cache.headroom is None or cache.mean_request is None or ratio is None:
        return False
    in_one_piece = cache.headroom + cache.stranded
    return ratio < limit / factor and in_one_piece >= limit * factor * cache.mean_request


def _lasting_ratio(window: Window, key: SeriesKey, limits: Limits) -> float | None:
    last = window.figures(key, window.now_s - limits.recent_s)[-limits.headroom_samples :]
    return max(last) if len(last) == limits.headroom_samples else None


@once_a_window
def _fragmentation_ooms(window: Window, since_s: float) -> dict[tuple[str, str], Event]:
    """Return the last error for want of memory in one piece, by GPU and process."""
    return {
        (event.gpu, event.process): event
        for event in window.events(OOM, since_s)
        if verdict(event) is Attribution.FRAGMENTATION
    }
