"""Tell an XID once that several sources report: the kernel log's line, NVML's event, other lines.

The line says most (process, link, details), so what another source reports waits for it a moment;
what no line comes for is told as it is.  While the log cannot be read nothing waits.

What was told without a line is remembered over restarts: a log that can be read by then tells of it
under the name that the spool knows, and one that still cannot does not mean that it is over.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# One GPU and one code, this close together, are one XID.
SAME_S = 2.0
# The driver writes the line and the event within milliseconds; the log is read once a second.
LINE_WITHIN_S = 3.0
REMEMBERED = 1_000
# Over restarts.
KEPT = 100


@dataclass(frozen=True, slots=True)
class Report:
    """An XID that something else than its own line tells of."""

    gpu: str
    code: int
    at_s: float
    source: str
    text: str = ""
    # By an earlier process of ours, in this boot.
    was_told: bool = False
    # It may have happened up to this long before ``at_s``: so long nobody had looked.
    late_s: float = 0.0

    def is_same(self, gpu: str, code: int, at_s: float, late_s: float = 0.0) -> bool:
        """Return whether what was heard at ``at_s``, maybe ``late_s`` late, is this XID."""
        began_s, other_began_s = self.at_s - self.late_s, at_s - late_s
        is_close = began_s - SAME_S <= at_s and other_began_s - SAME_S <= self.at_s
        return is_close and (self.gpu, self.code) == (gpu, code)


class Reports:
    """What waits for its line, and what has been told."""

    def __init__(self, told: Iterable[Report] = ()) -> None:
        """``told``: what ``kept`` was when an earlier process ended."""
        self.kept: deque[Report] = deque(told, maxlen=KEPT)
        self._waiting: deque[Report] = deque(self.kept, maxlen=REMEMBERED)
        self._lines: deque[tuple[str, int, float]] = deque(maxlen=REMEMBERED)
        self._told: deque[Report] = deque(maxlen=REMEMBERED)

    def add(self, report: Report) -> None:
        """Let ``report`` wait for its line."""
        self._waiting.append(report)

    def has_line(self, gpu: str, code: int, at_s: float) -> bool:
        """Note a line; returns whether the XID was told already, without it."""
        self._lines.append((gpu, code, at_s))
        return any(told.is_same(gpu, code, at_s) for told in self._told)

    def told_before(self, gpu: str, code: int, at_s: float) -> Report | None:
        """Return as what an earlier process told the XID of a line, if it did."""
        for report in self._waiting:
            if report.was_told and report.is_same(gpu, code, at_s):
                return report
        return None

    def due(self, now_s: float, *, is_log_read: bool) -> Iterator[Report]:
        """Yield the reports for which no line came."""
        waiting, self._waiting = self._waiting, deque(maxlen=REMEMBERED)
        for report in waiting:
            if self._is_known(report):
                continue
            if is_log_read and now_s < report.at_s + LINE_WITHIN_S:
                self._waiting.append(report)
            else:
                self._told.append(report)
                if not report.was_told:
                    self.kept.append(replace(report, was_told=True))
                yield report

    def _is_known(self, report: Report) -> bool:
        return any(report.is_same(*line) for line in self._lines) or any(
            report.is_same(told.gpu, told.code, told.at_s, told.late_s) for told in self._told
        )
