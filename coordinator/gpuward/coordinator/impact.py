"""Measure what users feel of a service, from the cumulative counters of its instances.

Counters survive lost reports; they begin again at 0 when an instance restarts, and its start time
says so.  Shares are judged by their Wilson 95 % lower bound, so three failures of four requests do
not look like an outage: E. B. Wilson, JASA 22 (1927), 209-212.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gpuward.coordinator.model import ServiceTotals

# Two-sided 95 % quantile of the normal distribution.
Z_95 = 1.959964
# An instance not heard for this long says nothing about the present: same as a silent node.
SILENT_AFTER_S = 45.0


@dataclass(frozen=True, slots=True)
class Impact:
    """What users of a service felt in the window.

    ``stalled_for_s``: requests were in flight or waiting all that time and none completed.
    ``unready_for_s``: no instance that we hear has been ready all that time.  Both are 0 otherwise.
    """

    service: str
    requests: int
    failed: int
    slow: int
    instances: int = 0
    ready: int = 0
    silent: int = 0
    waiting: int = 0
    running: int = 0
    stalled_for_s: float = 0.0
    unready_for_s: float = 0.0
    # When the first failed or slow request of the window was reported.
    hurt_since_s: float | None = None
    nodes: frozenset[str] = frozenset()

    @property
    def has_demand(self) -> bool:
        return self.requests + self.waiting + self.running > 0

    @property
    def failed_share_low(self) -> float:
        return wilson_low(self.failed, self.requests)

    @property
    def slow_share_low(self) -> float:
        return wilson_low(self.slow, self.requests - self.failed)


@dataclass(frozen=True, slots=True)
class _Counts:
    requests: int = 0
    failed: int = 0
    slow: int = 0

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(
            self.requests + other.requests, self.failed + other.failed, self.slow + other.slow
        )


def wilson_low(hits: int, n: int) -> float:
    """Return the Wilson 95 % lower bound of ``hits / n``; 0 for ``n`` = 0."""
    if n <= 0:
        return 0.0
    z2 = Z_95 * Z_95
    p = min(1.0, hits / n)
    spread = Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, (p + z2 / (2 * n) - spread) / (1 + z2 / n))


def measure(
    service: str, samples: Iterable[ServiceTotals], *, since_s: float, now_s: float
) -> Impact:
    """Return the impact on ``service`` from ``since_s`` to ``now_s``.

    ``samples``: of its instances, any order; of each instance also the last one before ``since_s``,
    where there is one, because counting starts from it.
    """
    by_instance = groupby(
        sorted(samples, key=lambda s: (s.instance, s.received_at_s, s.observed_at_s)),
        key=lambda s: s.instance,
    )
    series = [list(group) for _, group in by_instance]
    recent = [s for s in series if s[-1].received_at_s > since_s]
    heard = [s for s in recent if now_s - s[-1].received_at_s <= SILENT_AFTER_S]
    counts = sum((_counted(s, since_s) for s in recent), _Counts())
    return Impact(
        service=service,
        requests=counts.requests,
        failed=counts.failed,
        slow=counts.slow,
        instances=len(recent),
        ready=sum(s[-1].ready for s in heard),
        silent=len(recent) - len(heard),
        waiting=sum(s[-1].waiting for s in heard),
        running=sum(s[-1].running for s in heard),
        stalled_for_s=_for_all(heard, _stalled_since_s, now_s),
        unready_for_s=_for_all(heard, _unready_since_s, now_s),
        hurt_since_s=min((at for s in recent for at in _hurt_at_s(s, since_s)), default=None),
        nodes=frozenset(s[-1].node for s in recent),
    )


def _counted(series: Sequence[ServiceTotals], since_s: float) -> _Counts:
    first = series[0]
    # An instance that started inside the window has all its counts inside it.
    start = _totals(first) if first.started_at_s >= since_s else _Counts()
    steps = ((a, b) for a, b in pairwise(series) if b.received_at_s > since_s)
    return sum((_delta(a, b) for a, b in steps), start)


def _hurt_at_s(series: Sequence[ServiceTotals], since_s: float) -> Iterator[float]:
    for before, after in pairwise(series):
        delta = _delta(before, after)
        if after.received_at_s > since_s and delta.failed + delta.slow > 0:
            yield after.received_at_s


def _delta(before: ServiceTotals, after: ServiceTotals) -> _Counts:
    old, new = _totals(before), _totals(after)
    restarted = after.started_at_s > before.started_at_s + 1.0
    fell = new.requests < old.requests or new.failed < old.failed or new.slow < old.slow
    if restarted or fell:
        return new
    return _Counts(new.requests - old.requests, new.failed - old.failed, new.slow - old.slow)


def _totals(sample: ServiceTotals) -> _Counts:
    return _Counts(sample.requests, sample.failed + sample.timed_out, sample.over_objective)


def _for_all(
    heard: Sequence[Sequence[ServiceTotals]],
    since_s: Callable[[Sequence[ServiceTotals]], float | None],
    now_s: float,
) -> float:
    """Return for how long something has been true of every instance; 0 when of none."""
    since = [since_s(series) for series in heard]
    known = [s for s in since if s is not None]
    return now_s - max(known) if known and len(known) == len(since) else 0.0


def _unready_since_s(series: Sequence[ServiceTotals]) -> float | None:
    since_s = None
    for sample in reversed(series):
        if sample.ready:
            break
        since_s = sample.received_at_s
    return since_s


def _stalled_since_s(series: Sequence[ServiceTotals]) -> float | None:
    last, since_s = series[-1], None
    for sample in reversed(series):
        same = sample.requests == last.requests and sample.started_at_s == last.started_at_s
        if not same or sample.waiting + sample.running == 0:
            break
        since_s = sample.received_at_s
    return since_s
