"""Detect a driver that no longer answers.

A blocked NVML call never returns an error, it parks for ever, and every exporter that calls NVML
in its scrape then shows yesterday's health.  Slow is not hung: with GSP firmware each failing call
returns after 45 s (NVIDIA/open-gpu-kernel-modules#446), so a call is stalled at 10 s (ticket) and
hung at 60 s, or as soon as the kernel shows its thread in uninterruptible sleep (page).

A reboot takes down every engine of the node, so it is advised only when somebody else than the one
process that hangs finds the driver silent: a second process, or the kernel's own stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.detectors import task_blocked
from gpuward.agent.kind import Kind
from gpuward.agent.model import (
    Action,
    CauseDomain,
    Evidence,
    Finding,
    FindingClass,
    Outcome,
    Result,
)
from gpuward.agent.subject import subject_of
from gpuward.agent.window import NOT_LOOKED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Driver
    from gpuward.agent.window import Window

UNINTERRUPTIBLE = "D"

KIND = Kind(
    name="driver.unresponsive",
    default_class=FindingClass.TICKET,
    domain=CauseDomain.DRIVER,
    action=Action.DRAIN_NODE,
    meaning="A driver call has not returned: stalled after 10 s, hung after 60 s.",
    page_when_failed=True,
    clear_after_s=30.0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Age of the oldest unanswered call."""

    # Below this a call is merely slow: it opens nothing and does not hold a finding open.
    slow_s: float = 2.0
    # A little under one quarter of the GSP firmware's own 45 s timeout.
    stalled_s: float = 10.0
    # Beyond the GSP timeout: no error is coming any more.
    hung_s: float = 60.0
    # The kernel looks for blocked tasks every two minutes.
    kernel_told_s: float = 300.0


def detect(window: Window, limits: Limits = Limits()) -> Iterator[Finding]:
    """Yield one finding while a call waits for ``slow_s`` or longer; doubtful under ``stalled_s``.

    The subject carries no GPU, only the evidence does: the driver is one, and the finding must
    stay the same when the oldest unanswered call turns out to be of another GPU.
    """
    driver = window.driver
    if driver == NOT_LOOKED:
        about = subject_of(window)
        yield Finding(KIND.name, about, "The driver is not looked at.", outcome=Outcome.UNKNOWN)
        return
    if driver.waiting_s < limits.slow_s:
        return
    stalled = driver.waiting_s >= limits.stalled_s
    blocked = stalled and driver.blocked_state == UNINTERRUPTIBLE
    hung = blocked or driver.waiting_s >= limits.hung_s
    yield Finding(
        kind=KIND.name,
        subject=subject_of(window),
        summary=_summary(driver, hung=hung),
        outcome=Outcome.BAD if stalled else Outcome.DOUBTFUL,
        result=Result.FAIL if hung else Result.WARN,
        since_s=window.now_s - driver.waiting_s,
        evidence=(*_evidence(driver, limits), *_blocked_tasks(window, limits)),
        action=Action.REBOOT_NODE if hung and driver.confirmed_by else None,
    )


def _summary(driver: Driver, *, hung: bool) -> str:
    call = driver.waiting_call or "a call"
    where = f" on {driver.waiting_gpu}" if driver.waiting_gpu else ""
    word = "hung" if hung else "stalled"
    return f"The NVIDIA driver is {word}: {call}{where} has not returned."


def _evidence(driver: Driver, limits: Limits) -> Iterator[Evidence]:
    yield Evidence(
        name="driver_call_wait_seconds",
        value=driver.waiting_s,
        unit="seconds",
        threshold=limits.stalled_s,
        source="nvml",
    )
    for name, text in (
        ("driver_call", driver.waiting_call),
        ("gpu", driver.waiting_gpu),
        ("driver_version", driver.version),
    ):
        if text:
            yield Evidence(name=name, text=text, source="nvml")
    for name, text in (
        ("thread_state", driver.blocked_state),
        ("wait_channel", driver.wait_channel),
        ("confirmed_by", driver.confirmed_by),
    ):
        if text:
            yield Evidence(name=name, text=text, source="proc")


def _blocked_tasks(window: Window, limits: Limits) -> Iterator[Evidence]:
    """Yield what the kernel itself says of tasks that wait in the driver."""
    events = window.events(task_blocked.KIND.name, window.now_s - limits.kernel_told_s)
    if events:
        last = events[-1]
        yield Evidence("kernel_found_blocked_task", text=last.text, source="kmsg", at_s=last.at_s)
