"""Follow the kernel log for XIDs and the like: the driver's own word, also while it hangs.

The log is read from its beginning: after a restart of the agent the same record gives an event of
the same identity, so nothing is missed and the spool keeps nothing twice; the state folder knows up
to where the log was read, so what the kernel overwrote meanwhile is counted.  While the log cannot
be read, NVML's own events stand in for its lines.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import structlog

from gpuward.agent.kmsg_events import XID, EventMaker, Line, Lines
from gpuward.agent.kmsg_lines import NoticeLine
from gpuward.agent.kmsg_log import KernelLog
from gpuward.agent.model import Batch, ComponentHealth, Event, Result, Sample, SeriesKey
from gpuward.agent.nvml_view import ReportedXid
from gpuward.agent.xid_ledger import Ledger
from gpuward.agent.xid_reports import Report, Reports
from gpuward.agent.xid_storm import Storms
from gpuward.agent.xid_totals import XidTotals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gpuward.agent.kmsg_memory import KmsgMemory
    from gpuward.agent.model import Gpu
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

PERIOD_S = 1.0
# A log with more than one turn's share is read on soon: the kernel's ring does not wait.
BEHIND_PERIOD_S = 0.02
# The judge takes no more at a time; what is left is told in the next turns.
EVENTS_A_TURN = 200
UNTOLD_KEPT = 2_000
# Lines of the boot wait for the GPUs to be known, but not for a driver that never comes.
NAMELESS_S = 10.0
# While they wait.
LINES_KEPT = 16_384


class KmsgSampler:
    """Reads a kernel log and yields an event for each thing that it says of NVIDIA's hardware."""

    name = "kmsg"

    def __init__(
        self,
        path: Path,
        *,
        boot_id: str,
        clock: Clock,
        gpus: Callable[[], Sequence[Gpu]],
        reported: deque[ReportedXid] | None = None,
    ) -> None:
        """``gpus``: those that are known, to give an address its UUID; ``reported``: by NVML."""
        self.period_s = PERIOD_S
        self._path = path
        self._boot_id = boot_id
        self._clock = clock
        self._gpus = gpus
        self._reported = deque[ReportedXid]() if reported is None else reported
        self._memory: KmsgMemory | None = None
        self._ledger = Ledger()
        # Records up to this one are in the ledger.
        self._known_seq = -1
        self._log = KernelLog(path)
        self.totals = XidTotals(clock)
        self._replaced = 0
        self._lines = Lines()
        self._pending: list[Line] = []
        self._storms = Storms()
        self._reports = Reports()
        self._untold: list[Event] = []
        self._first_s: float | None = None
        self._trouble = ""
        # Lines and events that there was no room for.
        self._refused = 0

    @property
    def dropped_total(self) -> int:
        """How many records were lost before they could be read, or were too many to be told."""
        return self._log.dropped_total + self._refused

    @property
    def health(self) -> ComponentHealth:
        """Unknown, with the reason, while the log cannot be read."""
        result = Result.UNKNOWN if self._trouble else Result.OK
        return ComponentHealth(self.name, result, self._trouble)

    def remember_in(self, memory: KmsgMemory) -> None:
        """Go on from where ``memory`` ended, and keep it; before the first turn."""
        self._memory, self._ledger, self._known_seq = memory, memory.ledger, memory.seq
        self._log = KernelLog(self._path, read_until=memory.seq)
        self._reports = Reports(memory.told)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the log."""
        self._log.close()
        if self._memory:
            self._memory.close(self._known_seq, self._reports.kept)

    async def sample(self, now_s: float) -> Batch:
        """Return an event for each thing said since the last turn, oldest first."""
        if self._first_s is None:
            self._first_s = now_s
        if self._memory:
            # What the last turn returned has been taken in by now.
            self._memory.save(self._known_seq, self._reports.kept)
        self._read()
        self.period_s = BEHIND_PERIOD_S if self._log.is_behind else PERIOD_S
        samples = (
            Sample(SeriesKey("node_kmsg_readable"), now_s, float(not self._trouble)),
            Sample(SeriesKey("node_kmsg_lines_dropped_total"), now_s, float(self.dropped_total)),
        )
        if not self._gpus() and now_s - self._first_s < NAMELESS_S:
            return Batch(samples)
        events = [*self._untold, *self._collapsed(now_s)]
        self._untold = events[EVENTS_A_TURN:][:UNTOLD_KEPT]
        self._refused += len(events[EVENTS_A_TURN + UNTOLD_KEPT :])
        return Batch(samples, tuple(events[:EVENTS_A_TURN]))

    def _read(self) -> None:
        try:
            for data in self._log.read():
                if (line := self._lines.parse(data)) is None:
                    continue
                if len(self._pending) < LINES_KEPT:
                    self._pending.append(line)
                else:
                    self._refused += 1
        except OSError as error:
            self._log.close()
            self._say(f"{self._path}: {error.strerror or error}")
        else:
            self._say("")

    def _collapsed(self, now_s: float) -> Iterator[Event]:
        for event in self._events(now_s):
            for told in self._storms.take(event):
                yield self._with_history(told)
        if not self._log.is_behind:
            # Of a log that is caught up with, time tells what is over.
            for told in self._storms.due(now_s):
                yield self._with_history(told)

    def _events(self, now_s: float) -> Iterator[Event]:
        lines, self._pending = self._pending, []
        if self._log.replaced_total != self._replaced:
            self._replaced, self._known_seq = self._log.replaced_total, -1
        maker = EventMaker(self._boot_id, self._gpus(), now_s)
        for line in lines:
            event = maker.event(line)
            if isinstance(line.says, NoticeLine) and event.kind == XID:
                # The GPU's XID 79 says the same, mostly.
                report = Report(event.gpu, event.code, event.at_s, event.identity, event.text)
                self._reports.add(report)
            elif event.kind != XID:
                yield event
            elif not self._reports.has_line(event.gpu, event.code, event.at_s):
                yield self._counted(event, line.record.seq)
        self._known_seq = self._log.seq
        yield from self._from_elsewhere(now_s)

    def _counted(self, event: Event, seq: int) -> Event:
        """Count a line's XID; return it under the name that the spool may know."""
        earlier = self._reports.told_before(event.gpu, event.code, event.at_s)
        if earlier is not None:
            event = replace(event, identity=earlier.source, at_s=earlier.at_s)
        self._count(event, is_new=earlier is None and seq > self._known_seq)
        return event

    def _from_elsewhere(self, now_s: float) -> Iterator[Event]:
        """Yield the XIDs that have no line of their own."""
        while self._reported:
            gpu, code, at_s, since_s = self._reported.popleft()
            source = f"nvml:{self._boot_id}:{gpu}:{code}:{at_s:.3f}"
            late_s = max(0.0, at_s - since_s)
            self._reports.add(Report(gpu, code, at_s, source, "reported by NVML", late_s=late_s))
        is_log_read = not self._trouble
        # Behind, its line may still come.
        heard_s = now_s if not self._log.is_behind else 0.0
        for report in self._reports.due(heard_s, is_log_read=is_log_read):
            at_s, source = min(report.at_s, now_s), report.source
            event = Event(XID, at_s, source, report.code, report.gpu, text=report.text)
            self._count(event, is_new=not report.was_told)
            yield event

    def _count(self, event: Event, *, is_new: bool) -> None:
        """Count an XID; ``is_new``: it is not in the ledger yet."""
        self.totals.add(event)
        if is_new and event.gpu:
            wall_s = event.at_s + self._wall_offset_s()
            self._ledger.add(event.gpu, event.code, self._boot_id, wall_s)

    def _with_history(self, event: Event) -> Event:
        """Add what is known of the same XID from before."""
        if event.kind != XID:
            return event
        in_a_day = self._ledger.in_a_day(event.gpu, event.code, event.at_s + self._wall_offset_s())
        boots = self._ledger.earlier_boots(event.gpu, event.code, self._boot_id)
        history = {"xid_in_a_day": float(in_a_day), "xid_earlier_boots": float(boots)}
        return replace(event, values=MappingProxyType({**event.values, **history}))

    def _wall_offset_s(self) -> float:
        return self._clock.wall_s() - self._clock.mono_s()

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("kmsg.unreadable", reason=trouble)
        self._trouble = trouble
