"""What the judge's turn costs with 2,000 series, and how long a verdict takes from its scrape.

Verdict: from the moment a sampler hands over a batch with a hard fault among 2,000 values until the
finding is open in the snapshot, the reporter is woken and its report is made.  The judge turns once
a second: how long a batch waits for that turn is told beside it, on a real clock.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from figures import of_runs
from node import GPUS, Node
from timing import interleaved

from gpuward.agent import wire
from gpuward.agent.component import Components
from gpuward.agent.judge import Judge
from gpuward.agent.model import Event
from gpuward.daemon.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from timing import Effort

    from gpuward.agent.model import Batch

SERIES = 2_000
VERDICT_BUDGET_MS = 50.0
# As many seconds of history as the window keeps.
FULL_S = 300
FATAL_XID = 79


class Watchdog:
    """A supervisor that does not listen."""

    def ready(self, status: str) -> None: ...
    def watchdog(self) -> None: ...
    def stopping(self) -> None: ...


class Clock(SystemClock):
    """The machine's clock, set ahead, so that five minutes of samples fit into a second."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def mono_s(self) -> float:
        return super().mono_s() + self.ahead_s


def new_judge(clock: SystemClock) -> Judge:
    return Judge(
        node="node-1",
        boot_id="boot",
        instance="bench",
        clock=clock,
        components=Components(),
        notifier=Watchdog(),
    )


def measure(effort: Effort) -> Iterator[Figure]:
    clock, node = Clock(), Node(SERIES)
    judge = new_judge(clock)

    batches: list[Batch] = []

    def make() -> None:
        clock.ahead_s += 1.0
        batches.append(node.batch(clock.mono_s()))

    def take() -> None:
        judge.take("bench", batches.pop())

    for _ in range(FULL_S):
        make()
        take()
    calls = {"make": make, "take": take, "tick": judge.tick}
    taken = interleaved(calls, rounds=effort.times(100))
    for name, what in (("take", "judge takes in 2,000 samples"), ("tick", "judge's tick")):
        yield of_runs(f"{what}, CPU", [1e3 * seconds for seconds in taken[name]], "ms")
    verdicts_ms = [1e3 * _verdict_s(node, clock) for _ in range(effort.times(40))]
    yield of_runs("batch to verdict, wall", verdicts_ms, "ms", budget=VERDICT_BUDGET_MS)
    waits_ms = asyncio.run(_waits_ms(node, effort.times(10)))
    yield of_runs("batch to verdict with the wait for the turn, wall", waits_ms, "ms")


def _verdict_s(node: Node, clock: Clock) -> float:
    """Return how long it takes from a batch with a hard fault to the report that tells of it."""
    judge = new_judge(clock)
    judge.take("bench", node.batch(clock.mono_s()))
    judge.tick()
    clock.ahead_s += 1.0
    batch = _with_fault(node, clock.mono_s())
    judge.changed.clear()
    began_s = time.perf_counter()
    judge.take("bench", batch)
    judge.tick()
    report = wire.report(judge.snapshot, instance="bench", seq=1, events=())
    report.SerializeToString()
    taken_s = time.perf_counter() - began_s
    if not judge.changed.is_set() or len(report.findings) != 1:
        raise RuntimeError(f"the fault was not found: {judge.snapshot.open_findings}")
    return taken_s


async def _waits_ms(node: Node, times: int) -> list[float]:
    """Return the same for faults that come at any time of the judge's own loop."""
    taken_ms = []
    phase = random.Random(1)
    for _ in range(times):
        clock = SystemClock()
        judge = new_judge(clock)
        judge.take("bench", node.batch(clock.mono_s()))
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(judge.run())
            await asyncio.sleep(phase.uniform(0.05, 1.05))
            judge.changed.clear()
            began_s = time.perf_counter()
            judge.take("bench", _with_fault(node, clock.mono_s()))
            await judge.changed.wait()
            taken_ms.append(1e3 * (time.perf_counter() - began_s))
            loop.cancel()
    return taken_ms


def _with_fault(node: Node, now_s: float) -> Batch:
    fault = Event("gpu.xid", now_s, "bench", code=FATAL_XID, gpu=GPUS[3], text="fell off the bus")
    return replace(node.batch(now_s), events=(fault,))
