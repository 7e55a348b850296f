"""Let a replica live on a virtual clock, and note what the agent says of it.

The agent's own parts, in its own rhythm: a scrape each second into the window, the latency sampler
each five, detectors and the life of their findings each ``step_s``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from gpuward.agent.detection.slow_down import SlowDown
from gpuward.agent.detectors import (
    latency_inter_token,
    latency_objective,
    latency_queue,
    service_errors,
)
from gpuward.agent.hysteresis import Change, State, Verdict, fold
from gpuward.agent.kinds import class_of
from gpuward.agent.model import Batch, Sample, SeriesKey
from gpuward.agent.replica_watch import TURN_S, ReplicaWatch, look, samples
from gpuward.agent.window import Readings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from detection_replicas import Replica

    from gpuward.agent.detection.load_regression import Load
    from gpuward.agent.detection.slow_down import Judged
    from gpuward.agent.model import OpenFinding

DETECTORS = (latency_inter_token, latency_objective, latency_queue, service_errors)
REPLICA = SeriesKey("", service="chat", endpoint="127.0.0.1:8000")
FORGET_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class Point:
    """What the law of the load is fed with, and what it made of it."""

    load: Load
    seconds: float
    residual: float | None


@dataclass(slots=True)
class Recorded(SlowDown):
    """Remembers what it was asked."""

    points: int = 0
    seen: list[Point] = field(default_factory=list)

    def judge(self, load: Load, seconds: float, at_s: float) -> Judged | None:
        judged = SlowDown.judge(self, load, seconds, at_s)
        known = judged is not None and judged.evidence is not None
        residual = seconds / judged.expected_s - 1.0 if judged is not None and known else None
        self.seen.append(Point(load, seconds, residual))
        return judged


@dataclass(frozen=True, slots=True)
class Raised:
    """A finding that was raised: when, how loud, and since when it says that it was so."""

    kind: str
    at_s: float
    since_s: float
    loudness: str
    summary: str


@dataclass(slots=True)
class Life:
    """What came of a replica."""

    raised: list[Raised] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    # By name, each five seconds: time and 95th percentile.
    percentiles: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    lived_s: float = 0.0


def live(
    replica: Replica, seconds: int, *, step_s: int = 1, until_kind: str = "", after_s: float = 0.0
) -> Life:
    """Let ``replica`` live for ``seconds``, or until ``until_kind`` is raised after ``after_s``."""
    readings, state, life = Readings(), State("bench"), Life()
    watch = ReplicaWatch(slow_down=Recorded())
    recorded = watch.slow_down
    for second in range(1, seconds + 1):
        now_s = float(second)
        replica.advance(now_s)
        readings.apply("engine", Batch(samples=tuple(_samples(replica, now_s))), now_s)
        if second % TURN_S == 0:
            window = readings.window(now_s)
            watch = look(window, REPLICA, watch)
            readings.apply("latency", Batch(samples=tuple(samples(window, REPLICA, watch))), now_s)
            for name, value in replica.percentiles(now_s).items():
                life.percentiles.setdefault(name, []).append((now_s, value))
        if second % FORGET_EVERY_S == 0:
            readings.forget_old(now_s)
        if second % step_s == 0:
            window = readings.window(now_s)
            verdicts = [Verdict(each.__name__, tuple(each.detect(window))) for each in DETECTORS]
            state, changes = fold(state, verdicts, now_s)
            raised = [opened for change, opened in changes if change is Change.RAISED]
            life.raised += [_raised(opened) for opened in raised]
            if now_s >= after_s and any(o.finding.kind == until_kind for o in raised):
                break
    life.lived_s = now_s
    assert isinstance(recorded, Recorded)
    life.points = recorded.seen
    return life


def _samples(replica: Replica, now_s: float) -> Iterator[Sample]:
    for signal, value in replica.signals().items():
        yield Sample(REPLICA._replace(signal=signal), now_s, value)


def _raised(opened: OpenFinding) -> Raised:
    finding = opened.finding
    since_s = opened.raised_s if finding.since_s is None else finding.since_s
    return Raised(finding.kind, opened.raised_s, since_s, class_of(finding).value, finding.summary)


def spread_of(points: list[Point]) -> tuple[float, float]:
    """Return standard deviation and correlation at one step of the residuals, once settled."""
    known = [point.residual for point in points if point.residual is not None]
    mean = math.fsum(known) / len(known)
    variance = math.fsum((each - mean) ** 2 for each in known) / len(known)
    pairs = pairwise(known)
    covariance = math.fsum((one - mean) * (other - mean) for one, other in pairs) / len(known)
    return math.sqrt(variance), covariance / variance
