"""Recent samples in ring buffers, and the read-only view of them that detectors judge.

``Readings`` is the agent's short memory: samplers' batches go in, a ``Window`` comes out.  A value
vanishes once it is older than its signal allows and never freezes: the oldest complaint about GPU
exporters is a healthy number from a driver that hung an hour ago.  Pure Python on ``array``: two
thousand series cost half a millisecond a tick and 5 KiB each, numpy would cost 10 MiB for nothing.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, TypeVar

from gpuward.agent.model import Batch, Driver, Event, Gpu, Process, Sample, SeriesKey
from gpuward.agent.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuward.agent.model import ServiceTotals

# Five minutes at 1 Hz, and a little for a sampler that is late.
RING_POINTS = 310
RING_KEEP_S = 300.0
EVENT_KEEP_S = 3_600.0
# Bounds against a node that starts processes, or logs lines, without end.
MAX_SERIES = 10_000
MAX_EVENTS_PER_KIND = 1_000
MAX_IDENTITIES = 10_000
PID_KNOWN_S = 60.0
# Nobody has looked at the driver, or nobody has lately.
NOT_LOOKED = Driver(up=False, reason="not looked at")
DRIVER_STALE_AFTER_S = 10.0
INVENTORY_STALE_AFTER_S = 60.0

T = TypeVar("T")


class Ring:
    """Points of one series, oldest dropped first; a point not newer than the last is ignored."""

    __slots__ = ("_at", "_next", "_value", "newest")

    def __init__(self, first: Sample) -> None:
        self._at = array("d", (first.at_s,))
        self._value = array("d", (first.value,))
        self._next = 1
        self.newest = first

    def append(self, sample: Sample) -> None:
        if sample.at_s <= self.newest.at_s:
            return
        if len(self._at) < RING_POINTS:
            self._at.append(sample.at_s)
            self._value.append(sample.value)
        else:
            self._at[self._next % RING_POINTS] = sample.at_s
            self._value[self._next % RING_POINTS] = sample.value
        self._next += 1
        self.newest = sample

    def since(self, since_s: float) -> tuple[Sample, ...]:
        """Return the points at or after ``since_s``, oldest first."""
        key, kept, size = self.newest.key, [], len(self._at)
        for back in range(1, size + 1):
            at = (self._next - back) % size
            if self._at[at] < since_s:
                break
            kept.append(Sample(key, self._at[at], self._value[at]))
        return tuple(reversed(kept))


class Readings:
    """All that samplers said lately; one loop writes it, nothing reads it but through a window."""

    def __init__(self) -> None:
        # By signal, then by series: a detector asks for all series of one signal.
        self._rings: dict[str, dict[SeriesKey, Ring]] = {}
        self.series = 0
        self._events: dict[str, deque[Event]] = {}
        self._event_ids: dict[tuple[str, str], float] = {}
        self._gpus: dict[str, tuple[Gpu, ...]] = {}
        # With the time of the last look: a sampler that is gone does not speak for ever.
        self._processes: dict[str, tuple[float, tuple[Process, ...]]] = {}
        self._services: dict[str, tuple[float, tuple[ServiceTotals, ...]]] = {}
        self._driver = NOT_LOOKED
        self._driver_at_s = 0.0
        # Samples of series that did not fit.
        self.refused = 0

    def apply(self, source: str, batch: Batch, now_s: float) -> tuple[Event, ...]:
        """Take in what sampler ``source`` saw; returns those events that were not known yet.

        Raises ``KeyError`` for a signal that is not in ``SIGNALS``: a bug in the sampler.
        """
        for sample in batch.samples:
            self._add(sample)
        if batch.gpus is not None:
            self._gpus[source] = batch.gpus
        if batch.processes is not None:
            self._processes[source] = (now_s, batch.processes)
        if batch.services is not None:
            self._services[source] = (now_s, batch.services)
        if batch.driver is not None:
            self._driver, self._driver_at_s = batch.driver, now_s
        return tuple(
            self._keep(event, now_s)
            for event in batch.events
            if (event.kind, event.identity) not in self._event_ids
        )

    def processes_of(self, source: str) -> tuple[Process, ...]:
        """Return the processes that sampler ``source`` named last."""
        return self._processes.get(source, (0.0, ()))[1]

    def forget_old(self, now_s: float) -> None:
        """Free what no window can show any more."""
        for rings in self._rings.values():
            for key in [k for k, r in rings.items() if r.newest.at_s < now_s - RING_KEEP_S]:
                del rings[key]
                self.series -= 1
        oldest_s = now_s - EVENT_KEEP_S
        for events in self._events.values():
            while events and events[0].at_s < oldest_s:
                events.popleft()
        for identity in [i for i, at_s in self._event_ids.items() if at_s < oldest_s]:
            del self._event_ids[identity]
        for identity in list(self._event_ids)[:-MAX_IDENTITIES]:
            del self._event_ids[identity]

    def window(self, now_s: float) -> Window:
        """Return the view at ``now_s``; it stays right until the next ``apply``."""
        looked = now_s - self._driver_at_s <= DRIVER_STALE_AFTER_S
        oldest_s = now_s - INVENTORY_STALE_AFTER_S
        return Window(
            now_s=now_s,
            gpus=_unique_gpus(gpu for gpus in self._gpus.values() for gpu in gpus),
            processes=_merged_processes(_fresh(self._processes, oldest_s)),
            services=tuple(_fresh(self._services, oldest_s)),
            driver=self._driver if looked else NOT_LOOKED,
            _rings=self._rings,
            _events=self._events,
        )

    def _add(self, sample: Sample) -> None:
        # Not a number is not a value: nothing was measured.
        if not isfinite(sample.value):
            return
        rings = self._rings.get(sample.key.signal)
        if rings is None:
            # An unknown name must fail here, not at the next scrape.
            rings = self._rings[SIGNALS[sample.key.signal].name] = {}
        ring = rings.get(sample.key)
        if ring is not None:
            ring.append(sample)
        elif self.series >= MAX_SERIES:
            self.refused += 1
        else:
            rings[sample.key] = Ring(sample)
            self.series += 1

    def _keep(self, event: Event, now_s: float) -> Event:
        self._event_ids[event.kind, event.identity] = event.at_s
        if event.pid and not event.process and event.at_s >= now_s - PID_KNOWN_S:
            # Named now: in a minute the process may be gone, and another have its pid.
            event = replace(event, process=self._key_of(event.pid))
        kept = self._events.setdefault(event.kind, deque(maxlen=MAX_EVENTS_PER_KIND))
        kept.append(event)
        return event

    def _key_of(self, pid: int) -> str:
        known = (process for _, some in self._processes.values() for process in some)
        return next((process.key for process in known if process.pid == pid), "")


@dataclass(frozen=True, slots=True)
class Window:
    """What is known at ``now_s``; all that a detector sees.

    Build one in a test with ``Window.of([Sample(...), ...], now_s=...)``.
    """

    now_s: float
    gpus: tuple[Gpu, ...]
    processes: tuple[Process, ...]
    services: tuple[ServiceTotals, ...]
    driver: Driver
    _rings: dict[str, dict[SeriesKey, Ring]]
    _events: dict[str, deque[Event]]

    @classmethod
    def of(
        cls,
        samples: Iterable[Sample] = (),
        *,
        now_s: float,
        gpus: Iterable[Gpu] = (),
        processes: Iterable[Process] = (),
        events: Iterable[Event] = (),
        driver: Driver | None = None,
    ) -> Window:
        """Return a window over plain values, samples and events in any order; the driver is up."""
        readings = Readings()
        readings.apply(
            "of",
            Batch(
                samples=tuple(sorted(samples, key=lambda sample: sample.at_s)),
                events=tuple(sorted(events, key=lambda event: event.at_s)),
                gpus=tuple(gpus),
                processes=tuple(processes),
                driver=driver or Driver(up=True),
            ),
            now_s,
        )
        return readings.window(now_s)

    def latest(self, key: SeriesKey) -> Sample | None:
        """Return the newest sample of ``key``, ``None`` when there is none or it is stale."""
        ring = self._rings.get(key.signal, {}).get(key)
        if ring is None or ring.newest.at_s < self._oldest_s(key.signal):
            return None
        return ring.newest

    def values(self, key: SeriesKey, since_s: float) -> tuple[Sample, ...]:
        """Return samples at or after ``since_s``, oldest first; up to five minutes are kept."""
        ring = self._rings.get(key.signal, {}).get(key)
        return () if ring is None else ring.since(since_s)

    def keys(self, signal: str) -> tuple[SeriesKey, ...]:
        """Return the series of ``signal`` that have a fresh value, in order of first sight."""
        oldest_s = self._oldest_s(signal)
        rings = self._rings.get(signal, {})
        return tuple(key for key, ring in rings.items() if ring.newest.at_s >= oldest_s)

    def fresh(self) -> dict[SeriesKey, Sample]:
        """Return the newest sample of every series that is not stale, signals kept together."""
        newest = {}
        for signal, rings in self._rings.items():
            oldest_s = self._oldest_s(signal)
            for key, ring in rings.items():
                if ring.newest.at_s >= oldest_s:
                    newest[key] = ring.newest
        return newest

    def events(self, kind: str, since_s: float) -> tuple[Event, ...]:
        """Return events of ``kind`` at or after ``since_s``, oldest first; kept for an hour."""
        return tuple(event for event in self._events.get(kind, ()) if event.at_s >= since_s)

    def _oldest_s(self, signal: str) -> float:
        return self.now_s - SIGNALS[signal].stale_after_s


def _fresh(said: dict[str, tuple[float, tuple[T, ...]]], oldest_s: float) -> Iterator[T]:
    for at_s, entries in said.values():
        if at_s >= oldest_s:
            yield from entries


def _unique_gpus(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    by_uuid = {gpu.uuid: gpu for gpu in gpus}
    return tuple(sorted(by_uuid.values(), key=lambda gpu: gpu.index))


def _merged_processes(processes: Iterable[Process]) -> tuple[Process, ...]:
    """Join what NVML and the tap say of one process (same key, same pid) into one entry."""
    merged: dict[tuple[str, int], Process] = {}
    for process in processes:
        name = (process.key, process.pid)
        merged[name] = _joined(merged[name], process) if name in merged else process
    return tuple(merged[name] for name in sorted(merged))


def _joined(one: Process, other: Process) -> Process:
    return replace(
        one,
        start_ticks=one.start_ticks or other.start_ticks,
        gpus=tuple(dict.fromkeys(one.gpus + other.gpus)),
        unit=one.unit or other.unit,
        pod=one.pod or other.pod,
        container=one.container or other.container,
        engine=one.engine or other.engine,
        model=one.model or other.model,
        service=one.service or other.service,
        tapped=one.tapped or other.tapped,
    )
