"""Sample what inference processes publish about their allocators, from outside of them.

Every torch process with the tap writes one file into the tap directory; this opens each as it
comes, and reads all of them once a second.  The record lock says whether the writer lives and its
pid; what a dead one wrote last is still read, because it often says why it died.  Nothing a writer
says is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from gpuward.agent import process_identity
from gpuward.agent.coverage import TAPS_READABLE
from gpuward.agent.gpu_names import GpuNames
from gpuward.agent.model import Batch, ComponentHealth, Result, Sample, SeriesKey
from gpuward.agent.samplers.tap_directory import TapDirectory
from gpuward.agent.samplers.tap_identity import rank_of, uids_of
from gpuward.agent.samplers.tap_lock import lock_holder
from gpuward.agent.samplers.tap_samples import (
    allocator_state,
    is_degraded,
    is_plausible,
    oom_event,
    samples,
)
from gpuward.agent.samplers.tap_writer import Writer
from gpuward.tap import layout

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gpuward.agent.model import Event, Gpu, Process
    from gpuward.agent.samplers.tap_file import TapFile
    from gpuward.agent.samplers.tap_record import PackedRecord
    from gpuward.agent.samplers.tap_samples import DeviceMemory, Reading
    from gpuward.daemon.clock import Clock

# A member of a group of processes counts with its last figures for so long.
READING_FRESH_S = 10.0
# An older error was reported by the agent that ran then.
OOM_NEWS_S = 900.0
# Apart by more, the writer's monotonic clock is not ours: a time namespace, or a lie.
CLOCK_SLACK_S = 5.0


@dataclass(frozen=True, slots=True)
class TapWriter:
    """A living process with a tap: where its file is, whose, and whether it may be asked."""

    path: Path
    uid: int
    pid: int
    accepts_requests: bool
    is_degraded: bool


class TapSampler:
    """Reads the tap files of ``directory``.

    ``device_memory``: what the driver said last of a GPU, by UUID; without it there is no headroom.
    ``gpus``: those that the driver shows.
    ``identify``: names the process of a host pid, ``None`` when it is gone.
    """

    name = "tap"
    period_s = 1.0

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        proc_root: Path,
        device_memory: Callable[[str], DeviceMemory | None],
        gpus: Callable[[], Sequence[Gpu]] = tuple,
        identify: Callable[[int, Path], Process | None] = process_identity.place,
        holder_of: Callable[[int], int | None] = lock_holder,
    ) -> None:
        self._directory = TapDirectory(directory)
        self._clock = clock
        self._proc_root = proc_root
        self._device_memory = device_memory
        self._gpus = gpus
        self._names = GpuNames()
        self._identify = identify
        self._holder_of = holder_of
        self._writers: dict[str, Writer] = {}
        # Of each device that was asked for in this turn.
        self._memories: dict[str, DeviceMemory | None] = {}
        # Devices with news of writers that nobody has named yet: an error waits for its process.
        self._unnamed: dict[str, set[int]] = {}

    @property
    def refused(self) -> Counter[str]:
        """Return how many files and records were not taken in, by reason, ever."""
        return self._directory.refused

    @property
    def health(self) -> ComponentHealth:
        """Unknown, with the reason, while taps that may be there are not seen."""
        trouble = self._directory.trouble
        return ComponentHealth(self.name, Result.UNKNOWN if trouble else Result.OK, trouble)

    def writer_of(self, process_key: str, gpu: str, pid: int = 0) -> TapWriter | None:
        """Return the living process of that key and pid with memory on ``gpu``.

        Pid 0: of several processes the one that holds most.
        """
        found = [
            (reading.record.all_pools.reserved_bytes, name)
            for name, writer in self._writers.items()
            if writer.is_named
            and writer.process.key == process_key
            and pid in (0, writer.process.pid)
            for reading in writer.readings.values()
            if self._names(reading.record.gpu_uuid).gpu == gpu
        ]
        if not found:
            return None
        _, name = max(found)
        file, writer = self._directory.files[name], self._writers[name]
        degraded = [
            is_degraded(reading.record)
            for reading in writer.readings.values()
            if self._names(reading.record.gpu_uuid).gpu == gpu
        ]
        return TapWriter(
            path=file.path,
            uid=file.uid,
            pid=writer.process.pid,
            accepts_requests=bool(file.header.flags & layout.ACCEPTS_REQUESTS),
            is_degraded=any(degraded),
        )

    async def sample(self, now_s: float) -> Batch:
        gone = self._directory.update(now_s)
        if (gpus := tuple(self._gpus())) != self._names.gpus:
            self._names = GpuNames(gpus)
        self._memories = {}
        fresh: dict[str, set[int]] = {}
        for name, file in self._directory.files.items():
            writer = self._writers.setdefault(name, Writer())
            self._look_at_writer(file, writer)
            fresh[name] = self._read(file, writer, now_s)
        readable = Sample(TAPS_READABLE, now_s, float(not self._directory.trouble))
        batch = Batch(
            samples=(readable, *self._samples(fresh)),
            events=tuple(self._events(fresh, now_s)),
            processes=tuple(self._process(w) for w in self._writers.values() if w.is_named),
        )
        self._forget(gone)
        return batch

    async def __aenter__(self) -> Self:
        self._directory.watch()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._writers.clear()
        self._directory.close()

    def _look_at_writer(self, file: TapFile, writer: Writer) -> None:
        pid = self._holder_of(file.fd)
        writer.alive = pid is not None
        # A dead writer keeps its name: its last record may still tell of an error.
        if not pid or pid == writer.process.pid:
            return
        process = self._identify(pid, self._proc_root)
        if process is not None and file.uid in uids_of(self._proc_root / str(pid)):
            writer.process = replace(process, rank=process.rank or rank_of(file.header))
        else:
            self.refused["writer unknown"] += 1

    def _read(self, file: TapFile, writer: Writer, now_s: float) -> set[int]:
        """Take in the new records of ``file``; return the device indexes that had one."""
        fresh = set()
        for index, record in file.read().items():
            if not is_plausible(record, self._memory_of(record)):
                self.refused["implausible record"] += 1
                continue
            at_s = self._at_s(record, now_s)
            conf = file.header.alloc_conf
            writer.take(index, record, at_s=at_s, now_s=now_s, alloc_conf=conf)
            fresh.add(index)
        return fresh

    def _at_s(self, record: PackedRecord, now_s: float) -> float:
        age_s = now_s - record.mono_ns / 1e9
        age_by_wall_s = self._clock.wall_s() - record.real_ns / 1e9
        if abs(age_s - age_by_wall_s) > CLOCK_SLACK_S:
            age_s = age_by_wall_s
        return now_s - max(0.0, age_s)

    def _samples(self, fresh: dict[str, set[int]]) -> Iterator[Sample]:
        """Yield the series of each process key on each GPU that has news.

        Several processes may go by one key, as workers of one unit do: their figures are summed.
        """
        groups: dict[tuple[str, str], list[Reading]] = {}
        changed = set()
        for name, writer in self._writers.items():
            if not writer.is_named:
                continue
            yield from self._degraded(writer, fresh[name])
            for index, reading in writer.asked():
                group = (writer.process.key, self._names(reading.record.gpu_uuid).gpu)
                groups.setdefault(group, []).append(reading)
                if index in fresh[name]:
                    changed.add(group)
        for key, gpu in sorted(changed):
            readings = groups[key, gpu]
            newest_s = max(reading.at_s for reading in readings)
            members = [r for r in readings if r.at_s > newest_s - READING_FRESH_S]
            yield from samples(members, key, gpu, self._least_free(members))

    def _degraded(self, writer: Writer, fresh: set[int]) -> Iterator[Sample]:
        for index in sorted(fresh):
            reading = writer.readings[index]
            if is_degraded(reading.record):
                gpu = self._names(reading.record.gpu_uuid).gpu
                key = SeriesKey("process_tap_degraded", gpu=gpu, process=writer.process.key)
                yield Sample(key, reading.at_s, 1.0)

    def _memory_of(self, record: PackedRecord) -> DeviceMemory | None:
        """Return the memory of the record's device as it is in this turn."""
        device = self._names(record.gpu_uuid).device
        if device not in self._memories:
            self._memories[device] = self._device_memory(device)
        return self._memories[device]

    def _least_free(self, members: Sequence[Reading]) -> DeviceMemory | None:
        """Return the memory of the device of ``members``, of several slices the fullest."""
        known = [memory for one in members if (memory := self._memory_of(one.record))]
        return min(known, key=lambda memory: memory.free, default=None)

    def _events(self, fresh: dict[str, set[int]], now_s: float) -> Iterator[Event]:
        for name, new in fresh.items():
            writer = self._writers[name]
            indexes = new | self._unnamed.pop(name, set())
            if writer.alive and not writer.is_named:
                self._unnamed[name] = indexes
                continue
            for index in sorted(indexes):
                reading = writer.take_error(index)
                if reading is None:
                    continue
                neighbours = self._releasable_beside(name, reading.record.gpu_uuid)
                event = oom_event(
                    name.removesuffix(".tap"),
                    reading,
                    writer.process,
                    gpu=self._names(reading.record.gpu_uuid).gpu,
                    neighbours_releasable=neighbours,
                )
                if event.at_s >= now_s - OOM_NEWS_S:
                    yield event

    def _process(self, writer: Writer) -> Process:
        gpus = sorted({self._names(one.record.gpu_uuid).gpu for _, one in writer.asked()})
        return writer.shown(tuple(gpus))

    def _releasable_beside(self, name: str, gpu_uuid: bytes) -> int:
        return sum(
            allocator_state(reading.record).releasable
            for other, writer in self._writers.items()
            if other != name and writer.alive
            for reading in writer.readings.values()
            if reading.record.gpu_uuid == gpu_uuid
        )

    def _forget(self, gone: set[str]) -> None:
        wall_s = self._clock.wall_s()
        self._directory.remove_orphans(wall_s)
        for name in list(self._writers):
            if name in gone:
                self._directory.drop(name)
            elif self._writers[name].alive or not self._directory.remove_if_stale(name, wall_s):
                continue
            del self._writers[name]
            self._unnamed.pop(name, None)
