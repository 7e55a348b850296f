"""Judge the node once a second, and publish the judgement as one immutable snapshot.

The judge owns the readings and the life of every finding.  Exporter, query server and reporter
read ``snapshot``, swapped by reference: no locks, and nothing waits for the driver in a scrape.
The supervisor's watchdog is fed here and only here, so that it follows this loop and not the
driver: a monitor that is killed by the fault it should report reports nothing.

What is in no hurry is looked for every five seconds only, see ``_is_patient``.

A judgement of a large node takes several milliseconds, and a scrape would wait for all of them: so
it pauses between two detectors.  What samplers bring meanwhile is taken in after it, because all
detectors judge the same second.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.changes import Changes
from gpuward.agent.detectors import DETECTORS
from gpuward.agent.diagnosis.told import findings
from gpuward.agent.history import History
from gpuward.agent.hysteresis import Change, State, Verdict, fold
from gpuward.agent.maintenance import marked
from gpuward.agent.model import Event, FindingClass, OpenFinding, Snapshot
from gpuward.agent.one_shot import one_shot
from gpuward.agent.recording_listeners import Recorders
from gpuward.agent.window import Readings
from gpuward.agent.xid_catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gpuward.agent.component import Components
    from gpuward.agent.detectors import Detector
    from gpuward.agent.heard import Heard
    from gpuward.agent.kind import Kind
    from gpuward.agent.model import Batch, Finding
    from gpuward.agent.window import Window
    from gpuward.agent.xid_catalogue import Xid
    from gpuward.daemon.clock import Clock
    from gpuward.daemon.notify import Notifier

log = structlog.get_logger()

TICK_S = 1.0
# Others wait no longer than for one detector more than this.
SLICE_S = 0.001
FORGET_EVERY_TICKS = 60
# What is in no hurry is looked for in every fifth tick; and at once when ticks come too late.
PATIENT_EVERY_TICKS = 5
PATIENT_AT_MOST_S = 6.0
# What must be seen for so long before it is raised waits no longer for being looked for seldom.
PATIENT_S = 15.0
PATIENT_PAGE_S = 30.0
LOGGED_AS = {
    Change.RAISED: "finding.raised",
    Change.UPDATED: "finding.updated",
    Change.CLEARED: "finding.cleared",
}
# A storm of events beyond this, not yet on disk, is dropped and counted.
MAX_PENDING_EVENTS = 1_000


class Judge:
    """Takes batches in, lets findings live, publishes ``snapshot``."""

    def __init__(
        self,
        *,
        node: str,
        boot_id: str,
        instance: str,
        clock: Clock,
        components: Components,
        notifier: Notifier,
        detectors: Sequence[Detector] = DETECTORS,
        xids: Mapping[int, Xid] = CATALOGUE,
        drills: Callable[[], tuple[OpenFinding, ...]] = tuple,
    ) -> None:
        """``drills``: what a person has raised on purpose and is open now."""
        self._node = node
        self._boot_id = boot_id
        self._clock = clock
        self._components = components
        self._notifier = notifier
        self._detectors = detectors
        self._patient_due_s = clock.mono_s() + PATIENT_AT_MOST_S
        self._every_tick = [each for each in detectors if not _is_patient(each.kind)]
        self._resting = frozenset(each.component for each in detectors if _is_patient(each.kind))
        self._drills = drills
        self._drills_seen: frozenset[str] = frozenset()
        self.state = State(instance)
        self.readings = Readings(xids)
        self.history = History(boot_id, now_s=clock.mono_s(), wall_s=clock.wall_s())
        # Set at each raise, clear and change of result; the reporter clears it.
        self.changed = asyncio.Event()
        # What the coordinator knows of; ``None`` where there is none.
        self.heard: Heard | None = None
        # When it last took a report, or was first to be told of anything.
        self.acknowledged_s = clock.mono_s()
        # Whoever records is told what is taken in, and when it is judged.
        self.recorders = Recorders()
        # Whoever follows the node waits for its next change.
        self.changes = Changes()
        # Set with it; whoever remembers what is open clears it.
        self.unsaved = asyncio.Event()
        # What happened once and is not on disk yet.
        self.events: asyncio.Queue[tuple[Event, OpenFinding]] = asyncio.Queue(MAX_PENDING_EVENTS)
        self.events_dropped = 0
        self._events_seen = 0
        self.ticks = 0
        # How long all judgements took, their pauses included.
        self.judging_seconds = 0.0
        # The judgement that pauses, and what has been brought since it began.
        self._unfinished: Iterator[None] = iter(())
        self._is_judging = False
        self._brought: list[tuple[str, Batch, float]] = []
        self.snapshot = self._snapshot(self.readings.window(clock.mono_s()))

    def take(self, source: str, batch: Batch) -> None:
        """Take in what sampler ``source`` saw; what happened once goes to ``events`` at once.

        While a judgement pauses, all of it waits for the judgement's end.
        """
        if self._is_judging:
            self._brought.append((source, batch, self._clock.mono_s()))
        else:
            self._take_in(source, batch, self._clock.mono_s())

    def _take_in(self, source: str, batch: Batch, now_s: float) -> None:
        self.recorders.taken(now_s, source, batch)
        new_events = self.readings.apply(source, batch, now_s)
        self.history.add(batch.samples)
        if not new_events:
            return
        window = self.readings.window(now_s)
        for event in new_events:
            self._events_seen += 1
            finding_id = f"{self.state.instance}-e{self._events_seen}"
            self._keep(event, one_shot(event, window, finding_id))

    def _keep(self, event: Event, finding: OpenFinding) -> None:
        try:
            self.events.put_nowait((event, finding))
        except asyncio.QueueFull:
            self.events_dropped += 1

    def _keep_unheard(self, ended: OpenFinding) -> None:
        """Keep a finding that is over and that the coordinator has never heard of."""
        if self.heard is not None and not self.heard.forget(ended.finding_id):
            kind, at_s = ended.finding.kind, ended.last_seen_s
            self._keep(Event(kind, at_s, identity=f"ended {ended.finding_id}"), ended)

    def was_heard(self, finding_ids: Iterable[str]) -> None:
        """Remember that the coordinator has taken a report, and knows of these findings.

        Not of one that has ended since the report was made: nobody would forget it any more.
        """
        self.acknowledged_s = self._clock.mono_s()
        if self.heard is None:
            return
        still_open = {opened.finding_id for opened in self.state.open_findings}
        if self.heard.note(still_open.intersection(finding_ids)):
            self.unsaved.set()

    async def run(self) -> None:
        """Tick for ever."""
        due_s = self._clock.mono_s()
        while True:
            self._unfinished = self._judgement()
            for _ in self._unfinished:
                await asyncio.sleep(0)
            # A tick that came late is not made up for.
            due_s = max(due_s + TICK_S, self._clock.mono_s())
            await self._clock.sleep_until(due_s)

    def tick(self, *, of_all: bool = False) -> None:
        """Judge once, now, without a pause; a judgement that pauses is finished first.

        ``of_all``: also what would be looked for in a later tick.
        """
        for judgement in (self._unfinished, self._judgement(of_all=of_all)):
            for _ in judgement:
                pass

    def _judgement(self, *, of_all: bool = False) -> Iterator[None]:
        """Judge once; yields where others may have a turn."""
        self._is_judging = True
        try:
            yield from self._judge(of_all=of_all)
        finally:
            self._is_judging = False
        brought, self._brought = self._brought, []
        for source, batch, now_s in brought:
            # Its sampler's turn is over: what is wrong with the batch is contained here.
            with self._components.contain(f"sampler.{source}"):
                self._take_in(source, batch, now_s)

    def _judge(self, *, of_all: bool) -> Iterator[None]:
        now_s = began_s = self._clock.mono_s()
        self.recorders.judged(now_s, self.ticks)
        if self.ticks % FORGET_EVERY_TICKS == 0:
            self.readings.forget_old(now_s)
            self.history.forget_refused()
        self.history.advance(now_s, self._clock.wall_s())
        window = self.readings.window(now_s)
        verdicts = []
        is_for_all = self.ticks % PATIENT_EVERY_TICKS == 0 or now_s >= self._patient_due_s
        is_for_all |= of_all
        if is_for_all:
            self._patient_due_s = now_s + PATIENT_AT_MOST_S
        for detector in self._detectors if is_for_all else self._every_tick:
            verdicts.append(self._ask(detector, window))
            if self._clock.mono_s() - began_s >= SLICE_S:
                yield
                began_s = self._clock.mono_s()
        resting = frozenset() if is_for_all else self._resting
        self.state, changes = fold(self.state, verdicts, now_s, resting=resting)
        self.snapshot = self._snapshot(window)
        self.ticks += 1
        self.judging_seconds += self._clock.mono_s() - now_s
        for change, finding in changes:
            _log(change, finding)
            if change is Change.CLEARED:
                self._keep_unheard(finding)
        if self._drills_changed() or changes:
            self.changed.set()
            self.unsaved.set()
            self.changes.happened()
        self._notifier.watchdog()

    def _ask(self, detector: Detector, window: Window) -> Verdict:
        said: tuple[Finding, ...] | None = None
        with self._components.contain(detector.component):
            said = _said(detector, window)
        return Verdict(detector.component, said)

    def _drills_changed(self) -> bool:
        before = self._drills_seen
        self._drills_seen = frozenset(opened.finding_id for opened in self._drills())
        return before != self._drills_seen

    def _snapshot(self, window: Window) -> Snapshot:
        return Snapshot(
            node=self._node,
            boot_id=self._boot_id,
            at_s=window.now_s,
            wall_offset_s=self._clock.wall_s() - self._clock.mono_s(),
            driver=window.driver,
            gpus=window.gpus,
            processes=window.processes,
            samples=window.fresh(),
            open_findings=(*self.state.open_findings, *self._drills()),
            services=window.services,
            components=self._components.health,
        )


def _is_patient(kind: Kind) -> bool:
    """Return whether five seconds are nothing to ``kind``: it must last, or nobody is told."""
    if kind.default_class is FindingClass.PAGE or kind.page_when_failed:
        return kind.raise_after_s >= PATIENT_PAGE_S
    return kind.default_class is FindingClass.STORE or kind.raise_after_s >= PATIENT_S


def _said(detector: Detector, window: Window) -> tuple[Finding, ...]:
    """Return what ``detector`` says; raises ``ValueError`` when it speaks of another's kind."""
    domain, maintenance = detector.kind.domain, window.driver.maintenance
    # Whoever looks for causes asks the same: what one was told, the other need not find out again.
    said = findings(window, detector.detect)
    for finding in said:
        if finding.kind != detector.kind.name:
            raise ValueError(f"a finding of kind {finding.kind!r}, not {detector.kind.name}")
    return tuple(marked(found, domain, maintenance) for found in said)


def _log(change: Change, opened: OpenFinding) -> None:
    finding = opened.finding
    log.warning(
        LOGGED_AS[change],
        kind=finding.kind,
        code=finding.code,
        gpu=finding.subject.gpu,
        process=finding.subject.process,
        service=finding.subject.service,
        result=finding.result.value,
        finding_id=opened.finding_id,
        summary=finding.summary,
    )
