"""Look at the node once, in this process, without a running agent.

The same samplers and detectors as the agent's, for about two seconds: the activity of Hopper and
newer needs two samples a second apart.  A driver that does not answer is waited for until its
silence is a finding.  No port is opened, no spool, and nothing is written to the state folder: what
the agent remembers is read from a copy, and what the samplers would keep goes with it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
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
    from collections.abc import Iterable, Iterator, Sequence

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
# Memory, so that a full disk is none of our business.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is nobody else's
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
    with _copied(Path(config.state.directory)) as directory:
        config = msgspec.structs.replace(
            config,
            # A worker that measures would take longer than the look.
            probes=msgspec.structs.replace(config.probes, mode="off"),
            state=msgspec.structs.replace(config.state, directory=str(directory)),
        )
        return await _look_with(config, clock=clock, boot_id=boot_id)


@contextmanager
def _copied(directory: Path) -> Iterator[Path]:
    """Yield a folder that is thrown away, with what the agent keeps of its own in files.

    One in which nothing can be read or written, where there is room for none.
    """
    try:
        folder = TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
    except OSError:
        yield Path(os.devnull)
        return
    with folder as copy:
        for file in directory.glob("*.json"):
            # What cannot be read, or does not fit, is as good as forgotten.
            with suppress(OSError):
                shutil.copyfile(file, Path(copy, file.name))
        yield Path(copy)


async def _look_with(config: AgentConfig, *, clock: Clock, boot_id: str) -> Look:
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
    judge.tick(of_all=True)
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
