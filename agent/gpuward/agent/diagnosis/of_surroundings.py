"""Evidence around the GPUs: the host, and who answers at all."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from gpuward.agent.detectors import (
    cpu_starved,
    driver_missing,
    driver_unresponsive,
    gpu_lost,
    gpu_missing,
)
from gpuward.agent.diagnosis.case import cases
from gpuward.agent.diagnosis.seen import UNKNOWN, Presence, Seen, presence
from gpuward.agent.diagnosis.told import findings, seen_of, told
from gpuward.agent.endpoint_state import Standing, endpoints_of
from gpuward.agent.model import Outcome, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.agent.diagnosis.case import Case

MINUTE_S = 60.0
# Shorter is a page that came late.
UNREAD_S = 30.0
LEAST_UNREAD = 3.0
# A third of the time is what a busy host has; nobody's tokens are late for it.
PRESSURE_RATIO = 0.4
SILENT_S = 60.0
STEP_S = 60.0
PAGE_FAILURES = "replica_page_failures_total"


def gpu_gone(case: Case) -> Seen:
    """Look whether a GPU of the replica is lost, or one that might be is missing."""
    lost = findings(case.window, gpu_lost.detect)
    is_named = any(finding.outcome is Outcome.BAD for finding in lost)
    # That GPUs are missing follows from those that are lost by name.
    said = lost if is_named else (*lost, *findings(case.window, gpu_missing.detect))
    for finding in said:
        if finding.outcome is Outcome.BAD and _may_be_ours(case, finding.subject.gpu):
            return seen_of(finding)
    if any(finding.outcome is Outcome.UNKNOWN for finding in said):
        return UNKNOWN
    return Seen(Presence.ABSENT, source="nvml")


def _may_be_ours(case: Case, gpu: str) -> bool:
    """Return whether ``gpu`` is the replica's, or nobody's whose GPUs are known."""
    if gpu in case.gpus:
        return True
    others = cases(case.window)
    is_used = any(gpu in other.gpus for other in others)
    is_missed = any(not other.gpus for other in others)
    return not is_used and (not case.gpus or not is_missed)


def driver_silent(case: Case) -> Seen:
    """Look whether the driver hangs or is gone."""
    for detect in (driver_unresponsive.detect, driver_missing.detect):
        for finding in findings(case.window, detect):
            if finding.outcome is Outcome.BAD:
                return seen_of(finding)
            if finding.outcome is Outcome.UNKNOWN:
                return UNKNOWN
    return Seen(Presence.ABSENT, source="nvml")


def page_unreadable(case: Case) -> Seen:
    """Look whether the engine's page cannot be read any more."""
    count = case.risen(PAGE_FAILURES, UNREAD_S)
    if count is None:
        return UNKNOWN
    page = case.latest("replica_requests_total")
    is_old = page is None or page.at_s < case.window.now_s - UNREAD_S / 3
    there = presence(is_there=is_old and count >= LEAST_UNREAD)
    return Seen(there, count, "1", 0.0, source="engine", window_s=UNREAD_S)


def endpoint_answers(case: Case) -> Seen:
    """Look whether requests of our own are answered by the replica, or by the service's gateway."""
    known = [
        each
        for each in endpoints_of(case.window, case.service)
        if each.address == case.endpoint or each.is_gateway
    ]
    standings = {each.standing for each in known}
    if standings.isdisjoint((Standing.UP, Standing.FAILING)):
        return UNKNOWN
    failing = [each for each in known if each.standing is Standing.FAILING]
    words = ", ".join(f"{each.address}: {each.words}" for each in failing)
    return Seen(presence(is_there=not failing), source="endpoint", text=words)


def above(
    signal: str, limit: float, unit: str, for_s: float = 0.0, source: str = "proc"
) -> Callable[[Case], Seen]:
    """Return what looks whether the node's ``signal`` is at ``limit`` or above.

    ``for_s``: in the mean of so long; 0: in the newest reading.
    """

    def look(case: Case) -> Seen:
        key = SeriesKey(signal)
        newest = case.window.latest(key)
        if newest is None:
            return UNKNOWN
        figures = case.window.figures(key, case.window.now_s - for_s) if for_s else ()
        value = fmean(figures) if figures else newest.value
        there = presence(is_there=abs(value) >= limit)
        return Seen(there, value, unit, limit, source=source, at_s=newest.at_s, window_s=for_s)

    return look


starved = told(cpu_starved.detect, needs="node_cpu_pressure_ratio", hint=True)
cpu_pressure = above("node_cpu_pressure_ratio", PRESSURE_RATIO, "ratio", for_s=MINUTE_S)
coordinator_silent = above("node_coordinator_silence_seconds", SILENT_S, "seconds", source="agent")
clock_stepped = above("node_clock_step_seconds", STEP_S, "seconds", source="agent")
