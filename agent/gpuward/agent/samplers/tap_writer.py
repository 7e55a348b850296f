"""What is remembered of the process behind one tap file: who it is, and its figures by device."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gpuward.agent.allocator_conf import parse_allocator_conf
from gpuward.agent.fragmentation import LargeRequests
from gpuward.agent.model import Process
from gpuward.agent.samplers.tap_samples import Reading
from gpuward.tap import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.samplers.tap_record import PackedRecord

LARGE_REQUESTS_S = 60.0
NOBODY = Process(key="", pid=0, start_ticks=0)


@dataclass(slots=True)
class Writer:
    """A process with a tap; one that died keeps its name and its last figures."""

    alive: bool = False
    process: Process = NOBODY
    readings: dict[int, Reading] = field(default_factory=dict)
    # Of the last minute, by device index.
    _large: dict[int, LargeRequests] = field(default_factory=dict)
    _oom_mono_ns: dict[int, int] = field(default_factory=dict)
    # What ``shown`` returned, and of which process.
    _shown: tuple[Process, Process] = (NOBODY, NOBODY)

    @property
    def is_named(self) -> bool:
        return self.alive and self.process is not NOBODY

    def shown(self, gpus: tuple[str, ...]) -> Process:
        """Return the process on ``gpus``; the same object while it is the same."""
        of, shown = self._shown
        if of is not self.process or shown.gpus != gpus:
            shown = replace(self.process, gpus=gpus, tapped=True)
            self._shown = (self.process, shown)
        return shown

    def asked(self) -> Iterator[tuple[int, Reading]]:
        """Yield the readings in which the allocator was asked; a degraded tap may not ask it."""
        for index, reading in self.readings.items():
            if not reading.record.flags & layout.DEGRADED:
                yield index, reading

    def take(
        self, index: int, record: PackedRecord, *, at_s: float, now_s: float, alloc_conf: str
    ) -> None:
        """Take in a record of device ``index``, written at ``at_s``."""
        large = self._large.setdefault(index, LargeRequests())
        totals = record.totals
        large.add(at_s, totals.large_allocations, totals.large_allocated_bytes)
        large.forget_before(now_s - LARGE_REQUESTS_S)
        self.readings[index] = Reading(record, at_s, large.mean, parse_allocator_conf(alloc_conf))

    def take_error(self, index: int) -> Reading | None:
        """Return the reading when it carries an out-of-memory error that was not returned yet."""
        reading = self.readings[index]
        oom_mono_ns = reading.record.oom.mono_ns
        if oom_mono_ns <= self._oom_mono_ns.get(index, 0):
            return None
        self._oom_mono_ns[index] = oom_mono_ns
        return reading
