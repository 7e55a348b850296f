"""A card on the replica as the agent sees it: the tap's figures, the window, detectors, hysteresis.

Nothing of the agent is imitated: what is published becomes a record, the record becomes samples,
the samples go into the agent's window, its detectors judge them and its hysteresis raises.  Left
out are the file between tap and agent, and the driver.  While there is more room than any detector
minds and no flush, one second in thirty is judged: none of what is left out could be loud.  A
second in which no process did anything is like the one before it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from prediction_workloads import MIB

from gpuward.agent.detectors import (
    memory_fragmentation,
    memory_headroom,
    memory_leak,
    memory_neighbour,
)
from gpuward.agent.fragmentation import AllocatorState, headroom_safe
from gpuward.agent.hysteresis import State, Verdict, fold
from gpuward.agent.memory_exhaustion import EXHAUSTED_IN
from gpuward.agent.model import Batch, Gpu, Process, Result, Sample, SeriesKey
from gpuward.agent.samplers.tap_record import unpack_record
from gpuward.agent.samplers.tap_samples import DeviceMemory, Reading, gpu_name, samples
from gpuward.agent.window import Readings
from gpuward.simulator.allocator import CachingAllocator
from gpuward.tap import layout, statistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Finding
    from gpuward.simulator.allocator_config import AllocatorConfig
    from gpuward.simulator.allocator_device import FixedDevice

UUID = bytes(range(16))
GPU = gpu_name(UUID)
DETECTORS = (memory_fragmentation, memory_headroom, memory_leak, memory_neighbour)
# What the CUDA context takes beside the allocator.
CONTEXT_BYTES = 400 * MIB
NVML_EVERY_S = 5
MINUTE_S = 60
# A process that is younger has no floor yet.
LEAST_OF_MINUTE = 30
# A fifth above the limit that raises, and a little more.
CALM_RATIO = 31.0
CALM_EVERY_S = 30
NOT_WALKED = layout.pack_walk(layout.NO_SUMMARY, layout.NO_CLASSES, layout.NO_CLASSES)


class Moment(NamedTuple):
    """Of one second: bytes."""

    headroom: int
    requested: int


@dataclass(slots=True)
class Published:
    """One process with a tap; ``born_s`` is when it started."""

    key: str
    pid: int
    born_s: float
    device: FixedDevice
    config: AllocatorConfig
    allocator: CachingAllocator = field(init=False)
    large: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=MINUTE_S))
    minute: deque[Moment] = field(default_factory=lambda: deque(maxlen=MINUTE_S))
    # Of the last second; the mean large request of the last minute, if there was one.
    mean: float | None = None
    ooms: int = 0
    retries: int = 0

    def __post_init__(self) -> None:
        self.allocator = CachingAllocator(self.device, self.config)
        if not self.device.reserve(CONTEXT_BYTES):
            raise ValueError("no room on the device for another process")

    @property
    def process(self) -> Process:
        ticks = int(self.born_s * 100) + 1
        return Process(self.key, self.pid, ticks, gpus=(GPU,), tapped=True)

    def tick(self) -> Moment:
        """Take in one second; return what of it decides whether a closer look is due."""
        stats = self.allocator.memory_stats()
        self.large.append(
            (
                stats["allocation"]["large_pool"]["allocated"],
                stats["allocated_bytes"]["large_pool"]["allocated"],
            )
        )
        count = self.large[-1][0] - self.large[0][0]
        self.mean = (self.large[-1][1] - self.large[0][1]) / count if count else None
        self.ooms, self.retries = stats["num_ooms"], stats["num_alloc_retries"]
        state = AllocatorState(
            stats["reserved_bytes"]["all"]["current"],
            stats["active_bytes"]["all"]["current"],
            stats["inactive_split_bytes"]["all"]["current"],
            self.config.expandable_segments,
        )
        headroom = headroom_safe(state, self.device.free_bytes)
        self.minute.append(Moment(headroom, stats["requested_bytes"]["all"]["current"]))
        return self.minute[-1]

    def stand_still(self) -> None:
        """Take in one second in which nothing happened."""
        if self.minute:
            self.large.append(self.large[-1])
            self.minute.append(self.minute[-1])

    def reading(self, now_s: float) -> Reading:
        found = published(self.allocator, now_s, expandable=self.config.expandable_segments)
        return replace(found, mean_large_request=self.mean)

    def floors(self, now_s: float) -> Iterator[Sample]:
        """Yield the least of the last minute, as the agent's sampler of floors does."""
        if len(self.minute) < LEAST_OF_MINUTE:
            return
        for name, least in (
            ("headroom", min(moment.headroom for moment in self.minute)),
            ("requested", min(moment.requested for moment in self.minute)),
        ):
            key = SeriesKey(f"process_memory_{name}_floor_bytes", gpu=GPU, process=self.key)
            yield Sample(key, now_s, float(least))

    def end(self) -> None:
        """Give everything back to the device, as a process does that ends."""
        self.device.release(CONTEXT_BYTES + reserved(self.allocator))


@dataclass(slots=True)
class Seen:
    """An agent that looks at one GPU once a second."""

    device: FixedDevice
    readings: Readings = field(default_factory=Readings)
    state: State = field(default_factory=lambda: State("bench"))
    # What was said loudly of each open finding: a second time it is no news.
    said: dict[str, set[str]] = field(default_factory=dict)
    calm_every_s: int = CALM_EVERY_S

    def look(self, servers: list[Published], now_s: float, *, idle: bool = False) -> list[str]:
        """Take in one second, ``idle`` when nothing happened; return the warnings that are new."""
        if idle and int(now_s) % self.calm_every_s:
            for server in servers:
                server.stand_still()
            return []
        is_calm = not any(self.said.values())
        for server in servers:
            before = (server.retries, server.ooms)
            headroom = server.tick().headroom
            has_room = server.mean is None or headroom >= CALM_RATIO * server.mean
            is_calm &= has_room and before == (server.retries, server.ooms)
        if is_calm and int(now_s) % self.calm_every_s:
            return []
        self._take(servers, now_s)
        return self._judge(now_s)

    def _take(self, servers: list[Published], now_s: float) -> None:
        memory = DeviceMemory(self.device.total_bytes, self.device.free_bytes)
        processes = tuple(server.process for server in servers)
        found: list[Sample] = []
        for server in servers:
            found += samples([server.reading(now_s)], server.key, GPU, memory)
            if now_s % NVML_EVERY_S == 0:
                held = float(CONTEXT_BYTES + reserved(server.allocator))
                key = SeriesKey("process_gpu_memory_bytes", gpu=GPU, process=server.key)
                found.append(Sample(key, now_s, held))
            if now_s % MINUTE_S == 0:
                found += server.floors(now_s)
        card = Gpu(GPU, 0, "H100", "0000:01:00.0")
        batch = Batch(samples=tuple(found), gpus=(card,), processes=processes)
        self.readings.apply("replica", batch, now_s)
        if now_s % MINUTE_S == 0:
            self.readings.forget_old(now_s)

    def _judge(self, now_s: float) -> list[str]:
        window = self.readings.window(now_s)
        verdicts = [
            Verdict(detector.KIND.name, tuple(detector.detect(window))) for detector in DETECTORS
        ]
        self.state, _ = fold(self.state, verdicts, now_s)
        news: list[str] = []
        before, self.said = self.said, {}
        for opened in self.state.open_findings:
            known = before.get(opened.finding_id, set())
            names = set(warnings_of(opened.finding))
            news += sorted(names - known)
            self.said[opened.finding_id] = known | names
        return news


def warnings_of(finding: Finding) -> Iterator[str]:
    """Yield what is loud in a finding: its kind, and that it tells when the room is gone."""
    if finding.result not in {Result.WARN, Result.FAIL}:
        return
    name = finding.kind.removeprefix("process.memory.")
    yield name
    if any(fact.name == EXHAUSTED_IN for fact in finding.evidence):
        yield f"{name} with a time"


def published(
    allocator: CachingAllocator,
    now_s: float,
    *,
    expandable: bool = False,
    oom: layout.OutOfMemory | None = None,
) -> Reading:
    """Return the record that a tap makes of an allocator's statistics, without a walk."""
    now_ns, failed = int(now_s * 1e9), oom or layout.OutOfMemory()
    figures = statistics.figures(allocator.memory_stats(), failed.request_bytes)
    stamp = (2, now_ns, now_ns, UUID, 0, layout.EXPANDABLE if expandable else 0)
    raw = bytearray(layout.RECORD_SIZE)
    layout.pack_parts(raw, stamp, figures, NOT_WALKED, (0, 0, 0, *failed))
    record = unpack_record(bytes(raw))
    if record is None:
        raise ValueError("the agent does not accept the tap's record")
    return Reading(record, now_s)


def reserved(allocator: CachingAllocator) -> int:
    return int(allocator.memory_stats()["reserved_bytes"]["all"]["current"])
