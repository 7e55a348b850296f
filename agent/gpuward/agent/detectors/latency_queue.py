"""Note a replica whose requests wait for their turn: for a good part of the time that they take.

A queue that comes and goes is how batching works.  One that stands, and in which requests spend a
fifth of their time, is more load than the replica can serve.  The share is told by Little's law
from how many wait and how many run, so that it is of now: the engine's own sums count a request
only when it has finished.  Each data-parallel rank has a queue of its own, so of several the one
with the longest is judged: a full rank is not helped by others that have room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.fragmentation_trend import SURE, theil_sen
from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Outcome,
    Result,
    SeriesKey,
)
from gpuward.agent.remembered import once_a_window
from gpuward.agent.replica_load import is_silent
from gpuward.agent.subject import subject_of_replica

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.window import Window

WAITING = "replica_requests_waiting"
RUNNING = "replica_requests_running"
RANK_WAITING, RANK_RUNNING = "replica_rank_requests_waiting", "replica_rank_requests_running"
MINUTE_S = 60.0
# Twelve looks tell where a minute's queue goes as well as sixty, by a thirtieth of their pairs.
SLOPE_EVERY = 5

KIND = Kind(
    name="service.latency.queue",
    default_class=FindingClass.STORE,
    domain=CauseDomain.CAPACITY,
    action=Action.SCALE_UP,
    meaning="Requests to a replica spend a good part of their time waiting for their turn.",
    raise_after_s=15.0,
    clear_after_s=300.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the last minute."""

    # Share of looks at which some request waited.
    waiting_ratio: float = 0.8
    # Share of the requests inside that wait, which is the share of their time.
    share_ratio: float = 0.2
    clear_ratio: float = 0.5
    least_looks: int = 10


@dataclass(frozen=True, slots=True)
class _Queue:
    waiting_ratio: float
    share_ratio: float
    mean: float
    running: float
    where: str


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding per replica with a queue that stands; doubtful down to half of it."""
    yield from findings(window)


@once_a_window
def findings(window: Window, limits: Limits = Limits()) -> tuple[Finding, ...]:
    """Return what is found of each replica that tells how many requests wait."""
    judged = (_judge(window, limits, replica) for replica in window.keys(WAITING))
    return tuple(finding for finding in judged if finding is not None)


def _judge(window: Window, limits: Limits, replica: SeriesKey) -> Finding | None:
    if is_silent(window, replica):
        subject = subject_of_replica(window, replica.service, replica.endpoint)
        text = f"Whether requests to {replica.service} at {replica.endpoint} wait is not known."
        return Finding(KIND.name, subject, text, outcome=Outcome.UNKNOWN)
    queue = _queue(window, limits, replica)
    if queue is None or not _reaches(queue, limits, limits.clear_ratio):
        return None
    since_s = window.now_s - MINUTE_S
    looks = window.values(replica, since_s)[::SLOPE_EVERY]
    points = [(each.at_s - since_s, each.value) for each in looks]
    slope = theil_sen(points, SURE)
    grows = 0.0 if slope is None else slope.middle * MINUTE_S
    where = f"{replica.endpoint}{queue.where}"
    return Finding(
        kind=KIND.name,
        subject=subject_of_replica(window, replica.service, replica.endpoint),
        summary=(
            f"{queue.mean:.0f} requests to {replica.service} at {where} wait, and spend"
            f" {queue.share_ratio:.0%} of their time so."
        ),
        outcome=Outcome.BAD if _reaches(queue, limits, 1.0) else Outcome.DOUBTFUL,
        result=Result.WARN,
        evidence=(
            Evidence("requests_waiting", queue.mean, "1", source="engine"),
            Evidence("requests_running", queue.running, "1", source="engine"),
            Evidence("requests_waiting_per_minute", grows, "1", source="Theil-Sen"),
            Evidence("waiting_time", queue.waiting_ratio, "ratio", limits.waiting_ratio),
            Evidence("queue_share", queue.share_ratio, "ratio", limits.share_ratio),
        ),
    )


def _queue(window: Window, limits: Limits, replica: SeriesKey) -> _Queue | None:
    since_s = window.now_s - MINUTE_S
    ranks = replica._replace(signal=RANK_WAITING)
    has_ranks = window.latest(ranks) is not None
    waiting = window.figures(ranks if has_ranks else replica, since_s)
    signal = RANK_RUNNING if has_ranks else RUNNING
    running = window.figures(replica._replace(signal=signal), since_s)
    if len(waiting) < limits.least_looks or not running or not any(waiting):
        return None
    mean, beside = sum(waiting) / len(waiting), sum(running) / len(running)
    return _Queue(
        waiting_ratio=sum(value > 0 for value in waiting) / len(waiting),
        share_ratio=mean / (mean + beside),
        mean=mean,
        running=beside,
        where=" (at one of its ranks)" if has_ranks else "",
    )


def _reaches(queue: _Queue, limits: Limits, by: float) -> bool:
    return (
        queue.waiting_ratio >= by * limits.waiting_ratio
        and queue.share_ratio > by * limits.share_ratio
    )
