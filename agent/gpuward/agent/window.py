"""Recent samples in ring buffers, and the read-only view of them that detectors judge.

``Readings`` is the agent's short memory: samplers' batches go in, a ``Window`` comes out.  A value
vanishes once it is older than its signal allows and never freezes: the oldest complaint about GPU
exporters is a healthy number from a driver that hung an hour ago.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

from gpuward.agent.inventory import Inventories, Inventory
from gpuward.agent.model import Batch, Driver, Event, Sample, SeriesKey
from gpuward.agent.ring import KEPT_S, Ring
from gpuward.agent.signal_series import SignalSeries
from gpuward.agent.signals import SIGNALS
from gpuward.agent.xid_catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gpuward.agent.model import Gpu, Process
    from gpuward.agent.service_totals import ServiceTotals
    from gpuward.agent.xid_catalogue import Xid

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
SERVICES_STALE_AFTER_S = 60.0
# A scrape and a judgement ask for it thousands of times.
_STALE_AFTER_S = {name: signal.stale_after_s for name, signal in SIGNALS.items()}
# What is looked back on further than five minutes; all of it comes seldom.
_KEPT_S = dict.fromkeys(SIGNALS, KEPT_S) | {
    "gpu_memory_tapped_ratio": 1_230.0,
    "process_memory_requested_floor_bytes": 3_690.0,
    "process_memory_overhead_floor_bytes": 3_690.0,
    "process_memory_headroom_floor_bytes": 3_690.0,
}

T = TypeVar("T")


class Readings:
    """All that samplers said lately; one loop writes it, nothing reads it but through a window."""

    def __init__(self, xids: Mapping[int, Xid] = CATALOGUE) -> None:
        """``xids``: what their codes mean on this node."""
        self._xids = xids
        self._rings: dict[SeriesKey, Ring] = {}
        # Of each ring, so that all of them are copied at once.
        self._newest: dict[SeriesKey, Sample] = {}
        # By signal: a detector asks for all series of one.
        self._series_of: dict[str, SignalSeries] = {}
        self._events: dict[str, deque[Event]] = {}
        self._event_ids: dict[tuple[str, str], float] = {}
        self._inventories = Inventories()
        # With the time of the last look: a sampler that is gone does not speak for ever.
        self._services: dict[str, tuple[float, tuple[ServiceTotals, ...]]] = {}
        self._driver = NOT_LOOKED
        self._driver_at_s = 0.0
        # Samples of series that did not fit.
        self.refused = 0

    @property
    def series(self) -> int:
        """Return how many series are kept."""
        return len(self._rings)

    def apply(self, source: str, batch: Batch, now_s: float) -> tuple[Event, ...]:
        """Take in what sampler ``source`` saw; returns those events that were not known yet.

        Raises ``KeyError`` for a signal that is not in ``SIGNALS``: a bug in the sampler.
        """
        rings, newest = self._rings, self._newest
        for sample in batch.samples:
            key, _, value = sample
            # Not a number is not a value: nothing was measured.
            if not isfinite(value):
                continue
            ring = rings.get(key)
            if ring is None:
                self._begin(sample)
            elif ring.append(sample):
                newest[key] = sample
        if batch.gpus is not None:
            self._inventories.say_gpus(source, batch.gpus)
        if batch.processes is not None:
            self._inventories.say_processes(source, batch.processes, now_s)
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
        return self._inventories.processes_of(source)

    def forget_old(self, now_s: float) -> None:
        """Free what no window can show any more."""
        for series in self._series_of.values():
            for key in series.forget_older(now_s - RING_KEEP_S):
                del self._rings[key], self._newest[key]
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
        oldest_s = now_s - SERVICES_STALE_AFTER_S
        return Window(
            now_s=now_s,
            inventory=self._inventories.at(now_s),
            services=tuple(
                totals
                for said_s, services in self._services.values()
                if said_s >= oldest_s
                for totals in services
            ),
            driver=self._driver if looked else NOT_LOOKED,
            _rings=self._rings,
            _newest=self._newest,
            _series_of=self._series_of,
            _events=self._events,
            xids=self._xids,
        )

    def _begin(self, sample: Sample) -> None:
        key = sample.key
        # An unknown name must fail here, not at the next scrape.
        kept_s = _KEPT_S[key.signal]
        if len(self._rings) >= MAX_SERIES:
            self.refused += 1
            return
        ring = self._rings[key] = Ring(sample, kept_s)
        self._newest[key] = sample
        self._series_of.setdefault(key.signal, SignalSeries()).begin(ring)

    def _keep(self, event: Event, now_s: float) -> Event:
        self._event_ids[event.kind, event.identity] = event.at_s
        if event.pid and not event.process and event.at_s >= now_s - PID_KNOWN_S:
            # Named now: in a minute the process may be gone, and another have its pid.
            event = replace(event, process=self._key_of(event.pid))
        kept = self._events.setdefault(event.kind, deque(maxlen=MAX_EVENTS_PER_KIND))
        kept.append(event)
        return event

    def _key_of(self, pid: int) -> str:
        known = self._inventories.all_processes()
        return next((process.key for process in known if process.pid == pid), "")


@dataclass(frozen=True, slots=True)
class Window:
    """What is known at ``now_s``; all that a detector sees.

    Build one in a test with ``Window.of([Sample(...), ...], now_s=...)``.
    """

    now_s: float
    inventory: Inventory
    services: tuple[ServiceTotals, ...]
    driver: Driver
    _rings: dict[SeriesKey, Ring]
    _newest: dict[SeriesKey, Sample]
    _series_of: dict[str, SignalSeries]
    _events: dict[str, deque[Event]]
    # What the codes of XIDs mean on this node.
    xids: Mapping[int, Xid] = field(default_factory=lambda: CATALOGUE, compare=False, repr=False)
    # What ``remembered`` functions have found out about it.
    found: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

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

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return self.inventory.gpus

    @property
    def processes(self) -> tuple[Process, ...]:
        return self.inventory.processes

    def latest(self, key: SeriesKey) -> Sample | None:
        """Return the newest sample of ``key``, ``None`` when there is none or it is stale."""
        newest = self._newest.get(key)
        if newest is None or newest.at_s < self.now_s - _STALE_AFTER_S[key.signal]:
            return None
        return newest

    def values(self, key: SeriesKey, since_s: float) -> tuple[Sample, ...]:
        """Return samples at or after ``since_s``, oldest first; up to five minutes are kept."""
        ring = self._rings.get(key)
        return () if ring is None else ring.since(since_s)

    def figures(self, key: SeriesKey, since_s: float) -> Sequence[float]:
        """Return the values alone of what ``values`` returns: the same for a tenth of the work."""
        ring = self._rings.get(key)
        return () if ring is None else ring.figures(since_s)

    def risen(self, key: SeriesKey, since_s: float) -> float:
        """Return by how much a counter has risen over ``values``; a fall counts as nothing."""
        ring = self._rings.get(key)
        return 0.0 if ring is None else ring.rise(since_s)

    def over(
        self, key: SeriesKey, since_s: float, function: Callable[[tuple[Sample, ...]], T]
    ) -> T:
        """Return ``function`` of ``values``, remembered until these are others.

        For what costs more than a second's values are worth, of series that move once a minute.
        ``function`` is pure, and the same object each time.
        """
        ring = self._rings.get(key)
        return function(()) if ring is None else ring.over(since_s, function)

    def keys(self, signal: str) -> tuple[SeriesKey, ...]:
        """Return the series of ``signal`` that have a fresh value, in order of first sight."""
        series = self._series_of.get(signal)
        return () if series is None else series.fresh(self._oldest_s(signal))

    def known(self, signal: str) -> tuple[SeriesKey, ...]:
        """Return the series of ``signal`` that are kept, stale or not: of up to five minutes."""
        series = self._series_of.get(signal)
        return () if series is None else series.all()

    def fresh(self) -> dict[SeriesKey, Sample]:
        """Return the newest sample of every series that is not stale."""
        fresh = self._newest.copy()
        for signal, series in self._series_of.items():
            for key in series.stale(self._oldest_s(signal)):
                del fresh[key]
        return fresh

    def events(self, kind: str, since_s: float) -> tuple[Event, ...]:
        """Return events of ``kind`` at or after ``since_s``, oldest first; kept for an hour."""
        return tuple(event for event in self._events.get(kind, ()) if event.at_s >= since_s)

    def _oldest_s(self, signal: str) -> float:
        return self.now_s - _STALE_AFTER_S[signal]
