"""Look at the node once, in this process, without a running agent.

The same samplers and detectors as the agent's, for about two seconds: the activity of Hopper and
newer needs two samples a second apart.  A driver that does not answer is waited for until its
silence is a finding.  Nothing is written: no state folder, no spool, no port.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gpuward.agent.component import Components
from gpuward.agent.detectors import DETECTORS
from gpuward.agent.judge import Judge
from gpuward.agent.model import OpenFinding, Outcome, Result
from gpuward.agent.sampler_table import build_samplers
from gpuward.agent.sampling import Sampling
from gpuward.agent.window import NOT_LOOKED
from gpuward.daemon.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpuward.agent.config import AgentConfig
    from gpuward.agent.model import Finding, Snapshot
    from gpuward.agent.sampling import Sampler
    from gpuward.agent.window import Window
    from gpuward.daemon.clock import Clock

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Two turns of the fast lane, which is made every second, and the answers.
LOOK_S = 2.3
# By then a call that has not returned is a finding (10 s).
WAIT_FOR_DRIVER_S = 12.0
POLL_S = 0.1
XID = "gpu.xid"
KMSG = "sampler.kmsg"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look showed: ``snapshot`` has as open what is bad now, however short."""

    snapshot: Snapshot
    # Codes by UUID, empty for a GPU that nobody knows; ``None``: the log cannot be read.
    xids: dict[str, list[int]] | None
    # What detectors could not judge: one finding each.
    unknown: tuple[Finding, ...]


def boot_id() -> str:
    """Return the kernel's name for this boot."""
    return BOOT_ID.read_text().strip()


async def look(config: AgentConfig, *, clock: Clock, boot_id: str) -> Look:
    """Return what can be seen of this node now."""
    # A worker that measures would take longer than the look.
    config = msgspec.structs.replace(
        config, probes=msgspec.structs.replace(config.probes, mode="off")
    )
    components = Components()
    judge = Judge(
        node=config.node_name,
        boot_id=boot_id,
        instance="look",
        clock=clock,
        components=components,
        notifier=Notifier(""),
        xids=config.xid.catalogue(),
    )
    samplers = build_samplers(config, judge=judge, clock=clock, boot_id=boot_id)
    sampling = Sampling(samplers, judge=judge, clock=clock, components=components)
    async with AsyncExitStack() as parts:
        for sampler in samplers:
            if isinstance(sampler, AbstractAsyncContextManager):
                await parts.enter_async_context(sampler)
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(judge.run()), group.create_task(sampling.run())]
            await _watch(judge, sampling, clock)
            for loop in loops:
                loop.cancel()
        await _again(samplers, judge, components, clock)
    judge.tick()
    return _look(judge, clock.mono_s())


async def _watch(judge: Judge, sampling: Sampling, clock: Clock) -> None:
    """Return when each part has had its turns and the driver has answered, or has not for long."""
    began_s = clock.mono_s()
    await sampling.started.wait()
    await clock.sleep_until(began_s + LOOK_S)
    while clock.mono_s() < began_s + WAIT_FOR_DRIVER_S:
        driver = judge.readings.window(clock.mono_s()).driver
        if driver != NOT_LOOKED and driver.waiting_s < LOOK_S:
            return
        await clock.sleep_until(clock.mono_s() + POLL_S)


async def _again(
    samplers: Sequence[Sampler], judge: Judge, components: Components, clock: Clock
) -> None:
    """Give each sampler one more turn: now the GPUs that it may name are known."""
    for sampler in samplers:
        component = f"sampler.{sampler.name}"
        with components.contain(component):
            async with asyncio.timeout(LOOK_S):
                judge.take(sampler.name, await sampler.sample(clock.mono_s()))
            components.note(component, getattr(sampler, "health", None))


def _look(judge: Judge, now_s: float) -> Look:
    window = judge.readings.window(now_s)
    snapshot = replace(judge.snapshot, open_findings=(*_bad_now(judge, now_s),))
    return Look(snapshot, _xids(judge), tuple(_unknown(snapshot, window)))


def _bad_now(judge: Judge, now_s: float) -> Iterable[OpenFinding]:
    """Return everything that is bad; the agent would wait with some of it until it has lasted."""
    for condition in judge.state.conditions.values():
        finding = condition.finding
        since_s = condition.bad_since_s if finding.since_s is None else finding.since_s
        yield condition.opened or OpenFinding("", finding, since_s, now_s, now_s, count=1)


def _unknown(snapshot: Snapshot, window: Window) -> Iterable[Finding]:
    failed = {health.component for health in snapshot.components if health.reason}
    for detector in DETECTORS:
        # One that failed is told among the components.
        if detector.component not in failed:
            yield from (f for f in detector.detect(window) if f.outcome is Outcome.UNKNOWN)


def _xids(judge: Judge) -> dict[str, list[int]] | None:
    """Return the codes since the boot by GPU; ``None`` when the kernel's log cannot be read."""
    log = next(h for h in judge.snapshot.components if h.component == KMSG)
    if log.result is not Result.OK:
        return None
    codes: dict[str, list[int]] = {}
    while not judge.events.empty():
        event, _ = judge.events.get_nowait()
        if event.kind == XID:
            codes.setdefault(event.gpu, []).append(event.code)
    return codes
