"""How fast an error budget burns, in windows of several lengths at once.

An objective says which share of requests may be slower: the budget.  Burning at 1 spends it just in
time.  A short window alone alarms at each hiccup and a long one late; so both of a pair must burn:
the long one says that it matters, the short one that it still goes on (Google's SRE workbook,
chapter 5).  Shares are counted exactly above a bucket's edge, never interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Share of requests that may be slower than the objective, where nobody says otherwise.
BUDGET_RATIO = 0.01
MINUTE_S = 60.0
HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Count:
    """Requests, and those over the objective, in some time or since some time."""

    requests: float
    over: float

    def burn_ratio(self, budget_ratio: float = BUDGET_RATIO) -> float | None:
        """Return how many times too fast the budget burns; ``None`` without a request."""
        if self.requests <= 0:
            return None
        # A page may be wrong; more than all of them cannot be slow.
        ratio = self.over / self.requests if self.over < self.requests else 1.0
        return ratio / budget_ratio


def burns_in_both(short: Count, long: Count, budget_ratio: float = BUDGET_RATIO) -> float | None:
    """Return the slower of two burns; ``None`` when nothing was asked in the shorter time."""
    burns = (each.burn_ratio(budget_ratio) for each in (short, long))
    known = [burn for burn in burns if burn is not None]
    return min(known) if short.requests > 0 else None


@dataclass(slots=True)
class HourOfCounts:
    """Counts since some time, a mark each minute for an hour, oldest first: time, count."""

    marks: list[tuple[float, Count]] = field(default_factory=list)

    def note(self, now_s: float, since_start: Count) -> None:
        """Keep ``since_start`` if a minute has passed; a fall of it is a restart: begin anew."""
        if self.marks and since_start.requests < self.marks[-1][1].requests:
            self.marks.clear()
        if not self.marks or now_s - self.marks[-1][0] >= MINUTE_S:
            self.marks.append((now_s, since_start))
        while len(self.marks) > 1 and self.marks[1][0] <= now_s - HOUR_S:
            del self.marks[0]

    def last_hour(self, since_start: Count) -> Count:
        """Return what came within the hour before, or in as much of it as is known."""
        if not self.marks:
            return Count(0.0, 0.0)
        _, first = self.marks[0]
        over = max(0.0, since_start.over - first.over)
        return Count(since_start.requests - first.requests, over)
